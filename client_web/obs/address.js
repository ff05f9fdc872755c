/**
 * Reads the options of the OBS page (`obs.js`) from its address.
 *
 * @module obs/address
 */

/**
 * @typedef {object} ObsAddress
 * @property {string} session
 * @property {string | null} token from the fragment, which browsers do not send
 * @property {"contain" | "cover" | "fill"} fit
 * @property {boolean} isMirrored
 * @property {number} fadeMs of the first picture's fade-in
 * @property {number} graceMs how long the page still watches after OBS took it off air
 * @property {boolean} wantsAudio
 * @property {boolean} wantsDebug
 * @property {string[]} complaints about wrong options, for the log
 */

const FITS = Object.freeze(["contain", "cover", "fill"]);
const LONGEST_FADE_MS = 10000;
// Leaving a scene for a short while (a stinger, a look at another scene) should not cost a reconnect.
const GRACE_MS = 5000;
const LONGEST_GRACE_MS = 600000;

/**
 * @param {URL | Location} url
 * @returns {ObsAddress}
 */
export function readAddress(url) {
  const query = new URLSearchParams(url.search);
  const fragment = new URLSearchParams(url.hash.replace(/^#/, ""));
  /** @type {string[]} */
  const complaints = [];
  if (query.has("token")) complaints.push("the token belongs behind a #: what stands behind a ? is sent, and logged");

  /** @type {(name: string, otherwise: number, longest: number) => number} */
  const milliseconds = (name, otherwise, longest) => {
    const text = query.get(name);
    if (text === null) return otherwise;
    const value = Number(text);
    if (text !== "" && Number.isFinite(value) && value >= 0) return Math.min(value, longest);
    complaints.push(`${name}: expected milliseconds from 0 to ${longest}, got ${text}`);
    return otherwise;
  };
  /** @type {(name: string) => boolean} */
  const flag = (name) => ["1", "true", ""].includes(query.get(name) ?? "0");

  let fit = query.get("fit") ?? "contain";
  if (!FITS.includes(fit)) {
    complaints.push(`fit: expected ${FITS.join(", ")}, got ${fit}`);
    fit = "contain";
  }
  return {
    session: decodeURIComponent(url.pathname.split("/")[2] ?? ""),
    token: fragment.get("token") || null,
    fit: /** @type {ObsAddress["fit"]} */ (fit),
    isMirrored: flag("mirror"),
    fadeMs: milliseconds("fade", 0, LONGEST_FADE_MS),
    graceMs: milliseconds("grace", GRACE_MS, LONGEST_GRACE_MS),
    wantsAudio: flag("audio"),
    wantsDebug: flag("debug"),
    complaints,
  };
}
