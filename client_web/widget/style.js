/**
 * The widget's style sheet. It repeats the colours of `design.css`, which a page of another origin does not have; host
 * pages change them with `--live-scene-…`. No style of a host page reaches the label over the picture: see `.label`.
 *
 * @module widget/style
 */

const sheet = new CSSStyleSheet();
sheet.replaceSync(`
:host {
  --accent: var(--live-scene-accent, #a3b3ff); --accent-ink: var(--live-scene-accent-ink, #0d1024);
  --surface: var(--live-scene-surface, #13161c); --ink: var(--live-scene-ink, #eef0f4);
  --muted: var(--live-scene-muted, #a9b1be); --line: var(--live-scene-line, #6b7585); --chip: var(--live-scene-chip, #1c2028);
  display: block; max-width: 100%; border-radius: var(--live-scene-radius, 12px); background: var(--surface); color: var(--ink);
  font: 15px/1.4 var(--live-scene-font, -apple-system, "Segoe UI", Roboto, "Noto Sans", "PingFang SC", "Noto Sans CJK SC", sans-serif);
  text-align: start; color-scheme: dark;
  /* Nothing may cut the label off the picture. Important rules of a shadow root win over the page's. */
  overflow: visible !important; clip: auto !important; clip-path: none !important; mask: none !important; contain: none !important;
}
:host([hidden]) { display: none; }
:host([data-theme="light"]) {
  --accent: var(--live-scene-accent, #3b4fc8); --accent-ink: var(--live-scene-accent-ink, #fff);
  --surface: var(--live-scene-surface, #fff); --ink: var(--live-scene-ink, #14171d);
  --muted: var(--live-scene-muted, #48505e); --line: var(--live-scene-line, #7d8796); --chip: var(--live-scene-chip, #edf0f5);
  color-scheme: light;
}
*, ::before, ::after { box-sizing: border-box; }
[hidden] { display: none !important; }
button, input { font: inherit; color: inherit; margin: 0; }
button { border: 0; cursor: pointer; }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.stage {
  position: relative; isolation: isolate; overflow: hidden; aspect-ratio: var(--live-scene-aspect, 832 / 480); background: #0b0d11;
  border-radius: var(--live-scene-radius, 12px);
}
.below { isolation: isolate; }
.below, .below > video, .below > canvas, .poster { position: absolute; inset: 0; width: 100%; height: 100%; object-fit: cover; }
.poster {
  background: radial-gradient(120% 90% at 50% 118%, #f0a45c 0, #c8596a 22%, transparent 58%),
    linear-gradient(#141733, #33305f 52%, #6a4379 82%, #9a5478) center / cover;
  transition: opacity .5s;
}
.stage[data-picture="true"] .poster { opacity: 0; pointer-events: none; }
/* It is no part, inherits nothing and lies above everything, so that no style sheet of the page can hide it. */
.label {
  all: initial; position: absolute; z-index: 1; right: 8px; top: 8px; padding: 3px 8px; border-radius: 6px; visibility: inherit;
  font: 600 12px/1.4 -apple-system, "Segoe UI", Roboto, "Noto Sans", "PingFang SC", "Noto Sans CJK SC", sans-serif;
  background: #10131a; color: #fff; pointer-events: none; user-select: none;
}
.start {
  position: absolute; inset: 0; margin: auto; width: 68px; height: 68px; border-radius: 50%; background: #10131ae6; color: #fff;
  transition: scale .15s;
}
.start:hover { scale: 1.06; }
.start svg, .pause svg { display: block; margin: auto; fill: currentcolor; }
:is(.start, .pause):focus-visible { outline-color: #fff; }
.pause {
  position: absolute; left: 8px; top: 8px; width: 36px; height: 36px; border-radius: 8px; background: #10131ac4; color: #fff; opacity: 0;
}
.stage:hover .pause, .pause:focus-visible { opacity: 1; }
.status {
  position: absolute; left: 8px; right: 8px; bottom: 8px; display: flex; flex-wrap: wrap; align-items: center; gap: 4px 10px; width: fit-content;
  max-width: calc(100% - 16px); padding: 6px 12px; border-radius: 8px; background: #10131ae0; color: #fff; font-size: 14px;
}
.status p { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.status progress { flex: 1 1 90px; width: 90px; height: 6px; accent-color: #ffc661; }
.retry { padding: 4px 12px; min-height: 30px; border-radius: 6px; font-weight: 600; background: #fff; color: #10131a; }
.controls { padding: 10px; display: grid; gap: 8px; }
form { display: flex; gap: 8px; margin: 0; }
.field {
  flex: 1; min-width: 0; min-height: 40px; padding: 6px 12px; border-radius: 8px; border: 1px solid var(--line); background: transparent;
  font-size: 16px; /* below that, phones zoom in */
}
.field::placeholder { color: var(--muted); opacity: 1; }
.send { padding: 0 16px; min-height: 40px; border-radius: 8px; font-weight: 650; white-space: nowrap; background: var(--accent); color: var(--accent-ink); }
ul { display: flex; flex-wrap: wrap; gap: 8px; margin: 0; padding: 0; list-style: none; }
.preset { padding: 5px 13px; min-height: 32px; border-radius: 16px; background: var(--chip); font-size: 14px; text-align: start; }
.preset:hover { box-shadow: 0 0 0 1px var(--line); }
.preset[aria-pressed="true"] { box-shadow: 0 0 0 2px var(--accent); }
@media (pointer: coarse) { .pause { opacity: 1; } .preset, .field, .send { min-height: 44px; border-radius: 22px; } .field, .send { border-radius: 8px; } }
@media (prefers-reduced-motion: reduce) { * { transition: none !important; } }
`);

export default sheet;
