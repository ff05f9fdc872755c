/**
 * Reorders the items of a list by dragging with the mouse. The lists have buttons that do the same for the keyboard.
 *
 * @module drag
 */

/**
 * @param {HTMLElement} list children that may be dragged have `draggable` set
 * @param {(from: number, to: number) => void} onMoved indices of children; `to` counts without the moved item
 */
export function orderByDragging(list, onMoved) {
  /** @type {Element | null} */
  let dragged = null;
  const childAt = (/** @type {EventTarget | null} */ target) =>
    target instanceof Element ? (Array.from(list.children).find((child) => child.contains(target)) ?? null) : null;
  const unmark = () => {
    for (const child of list.querySelectorAll("[data-drop]")) child.removeAttribute("data-drop");
  };

  list.addEventListener("dragstart", (event) => {
    dragged = childAt(event.target);
    event.dataTransfer?.setData("text/plain", dragged?.textContent ?? "");
  });
  list.addEventListener("dragover", (event) => {
    const over = childAt(event.target);
    if (dragged === null || over === null) return;
    event.preventDefault();
    unmark();
    if (over !== dragged) over.setAttribute("data-drop", "before");
  });
  list.addEventListener("drop", (event) => {
    const over = childAt(event.target);
    unmark();
    if (dragged === null || over === null || over === dragged) return;
    event.preventDefault();
    const children = Array.from(list.children);
    const from = children.indexOf(dragged);
    const before = children.indexOf(over);
    onMoved(from, before > from ? before - 1 : before);
  });
  list.addEventListener("dragend", () => {
    dragged = null;
    unmark();
  });
}
