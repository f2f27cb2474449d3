// API: the server's answers, or an Error whose message is a sentence for people.

const ROOT = "/api/v1";

export async function ask(path, options = {}) {
  let response;
  try {
    response = await fetch(ROOT + path, options);
  } catch (error) {
    if (error.name === "AbortError") throw error;
    throw new Error("The server does not answer. Is it still running?");
  }
  const found = await response.json().catch(() => null);
  if (response.status === 429) throw new Error("The server is busy. Try again in a moment.");
  if (!response.ok) {
    const words = found?.detail ?? `The server answered with status ${response.status}.`;
    throw Object.assign(new Error(words), { status: response.status });
  }
  return found;
}

export function send(path, body) {
  const headers = { "Content-Type": "application/json" };
  return ask(path, { method: "POST", headers, body: JSON.stringify(body) });
}

// The photos by heading; a null is none.
export function predict(model, photos, signal) {
  const form = new FormData();
  for (const [heading, file] of Object.entries(photos)) if (file) form.append(heading, file);
  form.append("model", model);
  form.append("areas", "true");
  return ask("/predict", { method: "POST", body: form, signal });
}
