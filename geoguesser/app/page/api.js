// Client of the API. Failures are thrown as an Error with a sentence for the user.

const ROOT = "/api/v1";

export const HEADINGS = ["north", "east", "south", "west"];

export async function request(path, options = {}) {
  let response;
  try {
    response = await fetch(ROOT + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not respond. Is it still running?");
  }

  // The session ends when the server is started again.
  if (response.status === 401) location.assign("/login");
  const body = await response.json().catch(() => null);
  if (response.status === 429) throw new Error("The server is busy. Try again in a moment.");
  if (!response.ok) {
    const message = body?.detail ?? `The server responded with status ${response.status}.`;
    throw Object.assign(new Error(message), { status: response.status });
  }
  return body;
}

export function postJson(path, body) {
  const headers = { "Content-Type": "application/json" };
  return request(path, { method: "POST", headers, body: JSON.stringify(body) });
}

// `photos` maps headings to files; null is a missing view.
export function predict(model, photos, signal) {
  const form = new FormData();
  for (const [heading, file] of Object.entries(photos)) if (file) form.append(heading, file);
  form.append("model", model);
  form.append("areas", "true");
  return request("/predict", { method: "POST", body: form, signal });
}

export function getViewUrl(game, round, heading) {
  return `${ROOT}/games/${game}/rounds/${round}/views/${heading}`;
}
