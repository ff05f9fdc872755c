/**
 * The sheet that shows how to use this stage elsewhere: its address for OBS, and code that runs as it is. `app.js`
 * loads it when it is first opened.
 *
 * @module share
 */

import { make, textButton } from "../shared/dom.js";
import { t } from "../shared/i18n.js";
import { Links } from "./links.js";
import { openSheet } from "./sheets.js";
import { isStageName } from "./stage_name.js";

// A program that drives a stage gets what it needs for a try.
const PROMPT_SECRET_S = 7_200;
const KINDS = /** @type {const} */ (["obs", "studio", "curl", "javascript", "python"]);

/**
 * @typedef {object} Stage
 * @property {string} origin
 * @property {string} sessionId
 * @property {string | null} viewSecret shows this stage and can do nothing else; null: this server has no token
 * @property {string | null} promptSecret drives a stage
 * @property {Links} links
 * @property {string} prompt the last one, as an example
 * @property {string | null} name null: this server does not know session names
 */

/** By stage, so that a sheet that opens again makes no new link. @type {Map<string, Links>} */
const linksOf = new Map();

/**
 * Secrets for what is shared. The page's own token stays here: who gets a link may do what the link is for, and no more.
 *
 * @param {import("../sdk/address.js").Address} address
 * @param {string} session
 */
export async function secretsFor(address, session) {
  const links = linksOf.get(session) ?? new Links(address, session);
  linksOf.set(session, links);
  const [viewSecret, promptSecret] = await Promise.all([
    links.secret(),
    makeSecret(address, { scope: ["prompt"], expires_after: { seconds: PROMPT_SECRET_S } }),
  ]);
  return { links, viewSecret, promptSecret };
}

/**
 * @param {import("../sdk/address.js").Address} address
 * @param {object} wish see docs/protocol.md
 * @returns {Promise<string | null>}
 */
export async function makeSecret(address, wish) {
  if (address.token === null) return null;
  const headers = { ...address.headers, "Content-Type": "application/json" };
  const url = address.http("/v1/realtime/client_secrets");
  const response = await fetch(url, { method: "POST", headers, body: JSON.stringify(wish) });
  return response.ok ? (await response.json()).value : null; // see `Links.isRefused`
}

/**
 * @param {HTMLDialogElement} dialog
 * @param {Stage} stage
 * @param {{onRename: (name: string) => void, onNote: (text: string) => void}} handlers
 */
export function openShare(dialog, stage, { onRename, onNote }) {
  const code = make("pre", "snippet");
  code.tabIndex = 0;
  code.ariaLabel = t("share.title");
  code.role = "region";
  const note = make("p", "snippet-note");
  let chosen = /** @type {typeof KINDS[number]} */ ("obs");
  const show = () => {
    copy.disabled = stage.links.isRefused;
    if (stage.links.isRefused) {
      note.textContent = t("share.no_link");
      return;
    }
    code.textContent = snippet(chosen, stage);
    const secret =
      stage.viewSecret === null ? "" : t(chosen === "python" ? "share.secret.prompt" : "share.secret.view");
    note.textContent = `${t(`share.${chosen}.note`)} ${secret}`;
  };
  const tabs = make(
    "div",
    "segments",
    KINDS.map((kind) =>
      tab(kind, kind === chosen, () => {
        chosen = kind;
        show();
      }),
    ),
  );
  tabs.role = "radiogroup";
  tabs.ariaLabel = t("share.title");
  const copy = textButton(
    "primary",
    t("share.copy"),
    () =>
      void copyText(code, dialog).then((isCopied) => {
        onNote(t(isCopied ? "share.copied" : "share.select"));
        copy.textContent = t(isCopied ? "share.copied" : "share.copy");
      }),
  );
  const row = make("div", "sheet-actions", [copy]);
  const list = make("div", "");
  const listLinks = async () => {
    const links = await stage.links.list(async (wasShown) => {
      if (wasShown) stage.viewSecret = await stage.links.secret();
      show();
      onNote(t(wasShown ? "share.link_replaced" : "share.link_ended"));
      void listLinks();
    });
    list.replaceChildren(...(links === null ? [] : [links]));
  };
  openSheet(dialog, t("share.title"), [...nameForm(dialog, stage, onRename), tabs, note, code, row, list]);
  show();
  void listLinks();
}

/**
 * @param {HTMLDialogElement} dialog
 * @param {Stage} stage
 * @param {(name: string) => void} onRename
 * @returns {HTMLElement[]}
 */
function nameForm(dialog, stage, onRename) {
  if (stage.name === null) return [];
  const field = make("input", "field");
  Object.assign(field, {
    name: "stage-name",
    value: stage.name,
    autocomplete: "off",
    spellcheck: false,
    maxLength: 40,
  });
  const error = make("p", "field-error");
  error.role = "status";
  const rename = make("button", "plain", [t("share.rename")]);
  rename.type = "submit";
  const row = make("div", "sheet-row", [make("label", "grow", [t("share.name"), field]), rename]);
  const form = make("form", "sheet-form", [row, error]);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    const name = field.value.trim();
    const isGood = isStageName(name);
    field.ariaInvalid = String(!isGood);
    error.textContent = isGood ? "" : t("share.name_invalid");
    if (!isGood || name === stage.name) return;
    dialog.close();
    onRename(name);
  });
  return [form];
}

/**
 * @param {string} kind
 * @param {boolean} isChosen
 * @param {() => void} onChosen
 */
function tab(kind, isChosen, onChosen) {
  const radio = make("input", "");
  Object.assign(radio, { type: "radio", name: "share-kind", value: kind, checked: isChosen });
  radio.addEventListener("change", onChosen);
  return make("label", "segment", [radio, make("span", "", [t(`share.${kind}`)])]);
}

/**
 * @param {string} kind
 * @param {Stage} stage
 */
export function snippet(kind, { origin, sessionId, viewSecret: token, promptSecret, prompt }) {
  const bearer = token === null ? "" : ` -H "Authorization: Bearer ${token}"`;
  switch (kind) {
    case "obs":
      return `${origin}/obs/${sessionId}${token === null ? "" : `#token=${token}`}`;
    case "studio":
      return `${origin}/studio?session=${sessionId}${token === null ? "" : `#token=${token}`}`;
    case "curl":
      return `curl -fo snapshot.jpg${bearer} ${origin}/v1/sessions/${sessionId}/snapshot.jpg`;
    case "javascript":
      return javascript(origin, sessionId, token);
    case "python":
      return python(origin, promptSecret, prompt);
    default:
      throw new Error(`unknown kind of snippet ${kind}`);
  }
}

/**
 * A viewer over WHEP, made of browser APIs only.
 *
 * @param {string} origin
 * @param {string} sessionId
 * @param {string | null} token
 */
function javascript(origin, sessionId, token) {
  const authorization = token === null ? "" : `, Authorization: ${JSON.stringify(`Bearer ${token}`)}`;
  return `const video = Object.assign(document.createElement("video"), { autoplay: true, muted: true, playsInline: true });
document.body.append(video);
const peer = new RTCPeerConnection();
peer.ontrack = (event) => (video.srcObject = event.streams[0]);
peer.addTransceiver("video", { direction: "recvonly" });
await peer.setLocalDescription();
if (peer.iceGatheringState !== "complete") {
  await new Promise((resolve) => (peer.onicegatheringstatechange = () => peer.iceGatheringState === "complete" && resolve()));
}
const answer = await fetch(${JSON.stringify(`${origin}/whep/${sessionId}`)}, {
  method: "POST",
  headers: { "Content-Type": "application/sdp"${authorization} },
  body: peer.localDescription.sdp,
});
await peer.setRemoteDescription({ type: "answer", sdp: await answer.text() });
`;
}

/**
 * A controller with a stage of its own.
 *
 * @param {string} origin
 * @param {string | null} token
 * @param {string} prompt
 */
function python(origin, token, prompt) {
  const url = `${origin.replace(/^http/, "ws")}/v1/realtime`;
  const headers = token === null ? "" : `, additional_headers=${JSON.stringify({ Authorization: `Bearer ${token}` })}`;
  return `# pip install websockets
import asyncio, json
from websockets.asyncio.client import connect

async def main() -> None:
    async with connect(${JSON.stringify(url)}${headers}, max_size=None) as socket:
        await socket.send(json.dumps({"type": "session.start"}))
        await socket.send(json.dumps({"type": "prompt.set", "text": ${JSON.stringify(prompt)}}))
        async for text in socket:
            event = json.loads(text)
            print(event["type"])
            if event["type"] == "prompt.applied":
                break

asyncio.run(main())
`;
}

/**
 * Copies the code. A page on plain http (a LAN) may not use the clipboard API: then the code is selected and copied the
 * old way.
 *
 * @param {HTMLElement} code
 * @param {HTMLElement} dialog
 * @returns {Promise<boolean>}
 */
async function copyText(code, dialog) {
  const text = code.textContent ?? "";
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    getSelection()?.selectAllChildren(code);
    dialog.focus();
    return document.execCommand("copy");
  }
}
