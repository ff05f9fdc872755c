/**
 * The moderator's page: what waits, and two buttons for each. The secret comes in the address's fragment, which browsers
 * do not send; the connection comes back by itself.
 *
 * @module moderate
 */

const RETRY_MS = 2000;
const POLICY_VIOLATION = 1008;
const secret = new URLSearchParams(location.hash.slice(1)).get("secret") ?? "";

/** @typedef {{number: number, user: string, text: string, votes: number}} Wish */

/** @type {WebSocket | null} */
let socket = null;

function connect() {
  say("connecting", "connecting");
  const opening = new WebSocket(`${location.origin.replace(/^http/, "ws")}/moderate`);
  socket = opening;
  opening.addEventListener("open", () => opening.send(JSON.stringify({ secret })));
  opening.addEventListener("message", (event) => show(JSON.parse(event.data)));
  opening.addEventListener("close", (event) => {
    if (event.code === POLICY_VIOLATION) {
      say("refused", "the address's #secret= is wrong");
      return;
    }
    say("waiting", "the bot is away");
    setTimeout(connect, RETRY_MS);
  });
}

/**
 * @param {string} state
 * @param {string} text
 */
function say(state, text) {
  const chip = element("connection");
  chip.dataset.state = state;
  chip.textContent = text;
}

/** @param {{asked: Wish[], waiting: Wish[], ballot: Wish[], next: Wish[], on_stage: Wish | null}} state */
function show(state) {
  say("live", "connected");
  list("asked", state.asked, (wish) => [button("Approve", "approve", wish), button("Reject", "reject", wish)]);
  list("ballot", state.ballot, (wish) => [votes(wish), button("Reject", "reject", wish)]);
  list("next", [...state.next, ...state.waiting], (wish) => [button("Reject", "reject", wish)]);
  const shown = state.on_stage;
  element("on-stage").textContent =
    shown === null ? "" : `On the stage: #${shown.number} ${shown.text} (@${shown.user})`;
}

/**
 * @param {string} id
 * @param {Wish[]} wishes
 * @param {(wish: Wish) => HTMLElement[]} buttons
 */
function list(id, wishes, buttons) {
  const rows = wishes.map((wish) => {
    const row = document.createElement("li");
    const number = document.createElement("b");
    number.textContent = `#${wish.number}`;
    const text = document.createElement("p");
    text.textContent = wish.text;
    const user = document.createElement("small");
    user.textContent = `@${wish.user}`;
    text.append(user);
    const box = document.createElement("div");
    box.className = "buttons";
    box.append(...buttons(wish));
    row.append(number, text, box);
    return row;
  });
  element(id).replaceChildren(...rows);
  element(`${id}-empty`).hidden = rows.length > 0;
}

/** @param {Wish} wish */
function votes(wish) {
  const count = document.createElement("span");
  count.className = "tag";
  count.textContent = `${wish.votes} ${wish.votes === 1 ? "vote" : "votes"}`;
  return count;
}

/**
 * @param {string} label
 * @param {"approve" | "reject"} verb
 * @param {Wish} wish
 */
function button(label, verb, wish) {
  const made = document.createElement("button");
  made.type = "button";
  made.className = verb === "approve" ? "primary" : "quiet";
  made.textContent = label;
  made.setAttribute("aria-label", `${label} #${wish.number}: ${wish.text}`);
  made.addEventListener("click", () => socket?.send(JSON.stringify({ [verb]: wish.number })));
  return made;
}

/** @param {string} id */
function element(id) {
  const found = document.getElementById(id);
  if (found === null) throw new Error(`the page has no #${id}`);
  return found;
}

connect();
