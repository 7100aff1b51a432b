// Whether the server has another page by now than this one: it may have been renewed meanwhile.
import { signal } from "./lib.js";
import { onReturn } from "./connection.js";

const mine = new URL(import.meta.url).pathname.split("/")[2];

// It is not loaded again by itself: a page that was loaded anew is silent until somebody touches it.
export const outdated = signal(false);

onReturn(async () => {
  try {
    const page = await (await fetch("/", { cache: "no-cache" })).text();
    outdated.value = !page.includes("/assets/" + mine + "/");
  } catch {
    // Away again; the next return asks again.
  }
});
