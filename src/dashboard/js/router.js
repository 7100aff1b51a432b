// Pages by the fragment of the address: #/alerts, #/devices/SERIAL.
import { signal } from "./lib.js";

export const PAGES = ["alerts", "devices", "overview", "system"];

function parse() {
  const [page, ...rest] = location.hash.replace(/^#\/?/, "").split("/");
  let argument = null;
  try {
    argument = rest.length ? decodeURIComponent(rest.join("/")) : null;
  } catch {
    // A broken address leads to the list.
  }
  return { page: PAGES.includes(page) ? page : "alerts", argument };
}

export const route = signal(parse());

// A one-time link is no page: it signs in where one is.
addEventListener("hashchange", () => { if (!location.hash.startsWith("#code=")) route.value = parse(); });

export const href = (page, argument) => "#/" + page + (argument ? "/" + encodeURIComponent(argument) : "");

export function go(page, argument) {
  location.hash = href(page, argument);
}
