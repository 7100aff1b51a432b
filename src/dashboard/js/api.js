// Requests to the server that sent this page.

const TIMEOUT_MS = 15_000;

// An answer that is no success: `status` 0 if there was none at all.
export class ApiError extends Error {
  constructor(status, problem) {
    super(problem?.detail || "status " + status);
    this.status = status;
    this.problem = problem || {};
  }
}

let signedOut = () => {};
export function onSignedOut(callback) {
  signedOut = callback;
}

export async function api(method, path, body, { signal, quiet } = {}) {
  const ended = AbortSignal.timeout(TIMEOUT_MS);
  let answer, json;
  try {
    answer = await fetch("/api/v1" + path, {
      method,
      headers: body === undefined ? {} : { "content-type": "application/json" },
      body: body === undefined ? undefined : JSON.stringify(body),
      signal: signal ? AbortSignal.any([signal, ended]) : ended,
      credentials: "same-origin",
    });
    const text = await answer.text();
    json = text && /json/.test(answer.headers.get("content-type") || "") ? JSON.parse(text) : null;
  } catch (error) {
    if (signal?.aborted) throw error;
    throw new ApiError(0, null);
  }
  if (answer.ok) return json;
  if (answer.status === 401 && !quiet) signedOut();
  throw new ApiError(answer.status, json);
}

export const get = (path, options) => api("GET", path, undefined, options);

// "?a=b", without what is empty.
export function query(parameters) {
  const search = new URLSearchParams();
  for (const [name, value] of Object.entries(parameters)) {
    if (value !== undefined && value !== null && value !== "") search.set(name, value);
  }
  const text = search.toString();
  return text ? "?" + text : "";
}
