/**
 * A request of a page to its server. The operator's page and the page of clips use it.
 *
 * @module shared/ask
 */

/** The server refused; the message has its own words. */
export class ApiError extends Error {
  /** @type {string} */
  code;

  /** @param {string} code @param {string} message */
  constructor(code, message) {
    super(message);
    this.code = code;
  }
}

/**
 * Rejects with an `ApiError`, or as `fetch` does without a connection.
 *
 * @param {import("../sdk/address.js").Address} address
 * @param {string} method
 * @param {string} path
 * @param {object} [body] sent as JSON
 */
export async function ask(address, method, path, body) {
  const headers = { ...address.headers, ...(body !== undefined && { "Content-Type": "application/json" }) };
  const response = await fetch(address.http(path), { method, headers, body: body && JSON.stringify(body) });
  if (response.ok) return response;
  const { error } = await response
    .json()
    .catch(() => ({ error: { code: "internal_error", message: response.statusText } }));
  throw new ApiError(error.code, error.message);
}
