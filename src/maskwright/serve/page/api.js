// Requests to the server: with the token, waiting when it is busy, errors as one kind.

const LONGEST_WAIT = 60; // seconds

/** What the server, or the way to it, refused. */
export class Refusal extends Error {
  /**
   * @param {number} status of HTTP; 0 when no answer came
   * @param {string} code stable, for programs
   * @param {string} message one line, for people
   */
  constructor(status, code, message) {
    super(message);
    Object.assign(this, { name: "Refusal", status, code });
  }
}

export class Api {
  /**
   * @param {object} options
   * @param {() => string | null} options.token known so far
   * @param {(refused: boolean) => Promise<string>} options.askToken asks the person; `refused` tells that the last one was wrong
   * @param {(seconds: number) => void} options.onWait the server is busy and is asked again after so many seconds
   */
  constructor({ token, askToken, onWait }) {
    Object.assign(this, { token, askToken, onWait, asking: null });
  }

  /**
   * One request, repeated while the server is busy or wants a token.
   * @param {string} path relative to the page
   * @param {{method?: string, json?: object, form?: FormData, signal?: AbortSignal}} [options]
   * @returns {Promise<Response>} a successful one
   * @throws {Refusal} or an AbortError
   */
  async request(path, { method, json, form, signal } = {}) {
    for (;;) {
      const token = this.token();
      const headers = { ...(token && { Authorization: `Bearer ${token}` }), ...(json && { "Content-Type": "application/json" }) };
      const body = json ? JSON.stringify(json) : form;
      const response = await reach(path, { method: method ?? (body ? "POST" : "GET"), headers, body, signal });
      if (response.ok) return response;
      if (response.status === 401) {
        await this.#newToken(token);
      } else if (response.status === 429 || response.status === 503) {
        const seconds = Math.min(Math.max(Number(response.headers.get("Retry-After")) || 1, 1), LONGEST_WAIT);
        this.onWait(seconds);
        await pause(seconds * 1000, signal);
      } else {
        throw await explained(response);
      }
    }
  }

  /** The JSON of an answer. */
  async json(path, options) {
    return (await this.request(path, options)).json();
  }

  /** Requests that are refused together ask the person once. */
  async #newToken(refused) {
    if (this.token() !== refused) return;
    this.asking ??= this.askToken(refused !== null).finally(() => { this.asking = null; });
    await this.asking;
  }
}

/** Whether a request ended because nobody wants its answer any more. */
export function isAbort(error) {
  return error?.name === "AbortError";
}

/** Waits; rejects with an AbortError when the signal says so. */
export function pause(milliseconds, signal) {
  return new Promise((resolve, reject) => {
    const timer = setTimeout(resolve, milliseconds);
    signal?.addEventListener("abort", () => { clearTimeout(timer); reject(signal.reason); }, { once: true });
  });
}

async function reach(path, options) {
  try {
    return await fetch(path, options);
  } catch (error) {
    if (isAbort(error)) throw error;
    throw new Refusal(0, "unreachable", "The server cannot be reached. Is it still running?");
  }
}

async function explained(response) {
  const { error } = await response.json().catch(() => ({}));
  return new Refusal(response.status, error?.code ?? "unknown", error?.message ?? `The server answered ${response.status}.`);
}
