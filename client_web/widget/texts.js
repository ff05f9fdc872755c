/**
 * What the widget says. It has texts of its own because other people's pages load it, and every byte counts there.
 *
 * @module widget/texts
 */

/** @type {Record<string, Record<string, string>>} by language */
const TEXTS = {
  en: {
    label: "AI-generated",
    name: "Live scene",
    start: "Start the live scene",
    pause: "Pause",
    field: "Describe a scene",
    send: "Show",
    presets: "Scenes to choose from",
    retry: "Try again",
    connecting: "Connecting…",
    reconnecting: "Connection lost. Trying again…",
    queued: "In the queue: place {position}",
    choose: "Choose a scene, or describe one",
    waiting: "Waiting for the show to begin",
    making: "Making your scene…",
    refused: "This scene cannot be opened here.",
    failed: "That scene could not be made.",
  },
  zh: {
    label: "AI 生成",
    name: "实时场景",
    start: "开始实时场景",
    pause: "暂停",
    field: "描述一个场景",
    send: "播放",
    presets: "可选场景",
    retry: "重试",
    connecting: "连接中…",
    reconnecting: "连接中断，正在重试…",
    queued: "排队中：第 {position} 位",
    choose: "选择或描述一个场景",
    waiting: "等待节目开始",
    making: "正在生成场景…",
    refused: "无法在此处打开该场景。",
    failed: "该场景生成失败。",
  },
};

/**
 * @param {string} language a tag of BCP 47; one that we do not have is English
 * @returns {(key: string, blanks?: Record<string, string | number>) => string}
 */
export function textsIn(language) {
  const texts = TEXTS[language.toLowerCase().split("-")[0]] ?? TEXTS.en;
  return (key, blanks = {}) => texts[key].replace(/{(\w+)}/g, (_, name) => String(blanks[name]));
}
