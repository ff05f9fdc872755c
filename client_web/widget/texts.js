/**
 * The widget's texts. They are not in `texts/`, because other sites load the widget, and every byte counts there.
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
    start: "启动实时场景",
    pause: "暂停",
    field: "描述一个场景",
    send: "播放",
    presets: "可选场景",
    retry: "重试",
    connecting: "连接中…",
    reconnecting: "连接中断，正在重试…",
    queued: "排队中：第 {position} 位",
    choose: "选一个场景，或描述一个",
    waiting: "等待直播开始",
    making: "正在生成场景…",
    refused: "此处无法打开这个场景。",
    failed: "这个场景生成失败。",
  },
};

/**
 * @param {string} language a BCP 47 tag; an unknown one means English
 * @returns {(key: string, blanks?: Record<string, string | number>) => string}
 */
export function textsIn(language) {
  const texts = TEXTS[language.toLowerCase().split("-")[0]] ?? TEXTS.en;
  return (key, blanks = {}) => texts[key].replace(/{(\w+)}/g, (_, name) => String(blanks[name]));
}
