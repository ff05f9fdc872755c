/**
 * Example prompts as chips: the language of the page decides which ones.
 *
 * @module examples
 */

import { make } from "./dom.js";
import { currentLanguage } from "./i18n.js";

/** The first nine have the keys 1 to 9. @type {readonly {en: string, zh: string}[]} */
const EXAMPLES = Object.freeze([
  { en: "beach at sunset", zh: "海边日落" },
  { en: "how does a volcano erupt?", zh: "火山是怎么喷发的？" },
  { en: "a red sailboat on the sea at dawn", zh: "黎明海上的红色帆船" },
  { en: "snowy mountains at night", zh: "夜晚的雪山" },
  { en: "a yellow fish under water", zh: "海底的黄色小鱼" },
  { en: "a blue car in the city at night", zh: "夜晚城市里的蓝色汽车" },
  { en: "a dog on the beach", zh: "沙滩上的一只狗" },
  { en: "a girl in a red dress dancing in the forest", zh: "穿红裙的女孩在森林里跳舞" },
  { en: "a rocket in space", zh: "太空中的火箭" },
  { en: "a hot-air balloon over the mountains at dawn", zh: "黎明时群山上的热气球" },
]);

export class Examples {
  #list;
  #onChosen;

  /**
   * @param {HTMLElement} list a `<ul>`
   * @param {(text: string) => void} onChosen
   */
  constructor(list, onChosen) {
    this.#list = list;
    this.#onChosen = onChosen;
  }

  render() {
    this.#list.replaceChildren(...EXAMPLES.map((example, index) => this.#chip(example[currentLanguage()], index)));
  }

  /** @param {number} index from 0; one that does not exist does nothing */
  choose(index) {
    const example = EXAMPLES[index];
    if (example !== undefined) this.#onChosen(example[currentLanguage()]);
  }

  /**
   * @param {string} text
   * @param {number} index
   */
  #chip(text, index) {
    const button = make("button", "chip-button");
    button.type = "button";
    if (index < 9) {
      const key = make("kbd", "chip-key", [String(index + 1)]);
      key.ariaHidden = "true";
      button.append(key);
    }
    button.append(text);
    button.addEventListener("click", () => this.#onChosen(text));
    return make("li", "", [button]);
  }
}
