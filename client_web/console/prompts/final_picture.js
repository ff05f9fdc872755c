/**
 * Takes the picture of a finished clip from the viewer when the transition to it is over. `prompts.js` keeps it.
 *
 * @module final_picture
 */

import { Glass } from "../../sdk/glass.js";

/** @typedef {import("../../sdk/session.js").Session} Session */

const RTP_TICKS_PER_S = 90_000;
const WIDTH = 416;

/**
 * @param {Session} session with a viewer
 * @param {(promptId: string, picture: string) => void} onSeen a JPEG data URI
 */
export function watchForPictures(session, onSeen) {
  const glass = new Glass();
  const { viewer } = session;
  viewer?.on("state", (state) => state === "negotiating" && glass.forget());
  viewer?.on("frame", ({ frameIndex, rtpTimestamp, shownAt }) => glass.frameShown(frameIndex ?? rtpTimestamp, shownAt));
  session.on("prompt.applied", ({ prompt_id: promptId, frame }) => {
    // Over MSE frames have numbers and no RTP timestamps.
    const isMse = viewer?.transport === "mse";
    const { frame_rate: frameRate = 24, transition_s: transitionS = 0 } = /** @type {any} */ (session.options);
    const first = isMse ? frame.frame_index : frame.rtp_timestamp;
    if (first === null) return;
    const fade = Math.round((transitionS + 0.1) * (isMse ? frameRate : RTP_TICKS_PER_S));
    glass.expect((first + fade) >>> 0, () => {
      const { on_air: onAir, prompt_id: onAirId } = session.program;
      const picture = onAir === "clip" && onAirId === promptId ? viewer?.picture(WIDTH) : null;
      if (picture) onSeen(promptId, picture);
    });
  });
}
