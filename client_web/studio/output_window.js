/**
 * The script of the output window: says hello to the studio that opened it (`output.js`), until the studio paints here.
 *
 * @module output_window
 */

const HELLO = "sceneshift.studio.output"; // as in output.js
const HELLO_MS = 500;

const page = document.documentElement;

function hello() {
  if (page.dataset.state === "live") return;
  const studio = /** @type {Window | null} */ (window.opener);
  if (studio === null || studio.closed) page.dataset.state = "alone";
  else studio.postMessage(HELLO, location.origin);
}

hello();
setInterval(hello, HELLO_MS);

const picture = /** @type {HTMLElement} */ (document.getElementById("picture"));
picture.addEventListener("dblclick", () => {
  if (document.fullscreenElement === null)
    page.requestFullscreen().catch(() => {}); // refused: it stays a window
  else void document.exitFullscreen();
});
