// What a page has fetched: the newest answer, when it came, and what went wrong since.
import { useEffect, useRef, useState } from "./lib.js";
import { serverNow } from "./clock.js";
import { onReturn } from "./connection.js";
import { get } from "./api.js";

// Fetches `path` now, then every `every` ms (0: not again), while the page can be seen. A failed
// renewal keeps the old answer. `path` of null fetches nothing.
export function useLoaded(path, every = 0) {
  const [loaded, setLoaded] = useState({ path: null, data: null, error: null, at: 0, every });
  const [round, setRound] = useState(0);
  const again = useRef(() => {});
  again.current = () => setRound((value) => value + 1);

  useEffect(() => {
    if (path === null) return undefined;
    const ended = new AbortController();
    get(path, { signal: ended.signal }).then(
      (data) => setLoaded({ path, data, error: null, at: serverNow(), every }),
      (error) => {
        if (ended.signal.aborted) return;
        setLoaded((before) => ({ ...(before.path === path ? before : { data: null, at: 0, every }), path, error }));
      });
    return () => ended.abort();
  }, [path, round]);

  useEffect(() => {
    const timer = every && setInterval(() => {
      if (document.visibilityState === "visible") again.current();
    }, every);
    const leave = onReturn(() => again.current());
    return () => { clearInterval(timer); leave(); };
  }, [every]);

  // Until the answer for a new path is there, the old one is not shown as if it were its.
  const mine = loaded.path === path ? loaded : { path, data: null, error: null, at: 0, every };
  return { ...mine, loading: mine.data === null && mine.error === null, again: () => again.current() };
}
