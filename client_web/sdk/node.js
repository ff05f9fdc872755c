/**
 * The token of a program under Node: SCENESHIFT_TOKEN, else that of the user's own server on this machine, which
 * `sceneshift serve` keeps in a file while it runs. Only `connect` loads it, where there is a `process`.
 */

const LOOPBACK = Object.freeze(["localhost", "127.0.0.1", "[::1]"]);

/**
 * @param {string} address of the server
 * @returns {string | null}
 */
export function tokenFor(address) {
  // No `import`: bundlers for browsers would look for these modules.
  const { env, getBuiltinModule, kill } = /** @type {any} */ (globalThis).process;
  if (env === undefined) return null; // a browser, with something that a page calls `process`
  if (env.SCENESHIFT_TOKEN) return env.SCENESHIFT_TOKEN;
  const { hostname, port, protocol } = new URL(address);
  const files = getBuiltinModule?.("node:fs"); // since Node 20.16 and 22.3
  if (!LOOPBACK.includes(hostname) || files === undefined) return null;
  for (const folder of folders(env)) {
    try {
      const file = `${folder}/${port || (protocol === "https:" ? 443 : 80)}.json`;
      const { token, pid } = JSON.parse(files.readFileSync(file, "utf8"));
      kill(pid, 0); // throws if the server has died and left its file behind
      if (typeof token === "string") return token;
    } catch {
      // None of ours is there.
    }
  }
  return null;
}

/** @param {Record<string, string | undefined>} env */
function* folders(env) {
  if (env.XDG_RUNTIME_DIR) yield `${env.XDG_RUNTIME_DIR}/sceneshift`;
  const data = `${env.XDG_DATA_HOME || `${env.HOME}/.local/share`}/sceneshift`;
  yield `${env.SCENESHIFT_DATA_FOLDER || data}/run`;
}
