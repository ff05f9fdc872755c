/**
 * What the widget says, in English and Chinese.
 *
 * @module widget/texts
 */

/** @type {Record<string, [english: string, chinese: string]>} */
const TEXTS = {
  "label": ["AI-generated", "AI 生成"],
  "name": ["Live scene", "实时场景"],
  "start": ["Start the live scene", "开始实时场景"],
  "pause": ["Pause", "暂停"],
  "field": ["Describe a scene", "描述一个场景"],
  "send": ["Show", "播放"],
  "presets": ["Scenes to choose from", "可选场景"],
  "retry": ["Try again", "重试"],
  "connecting": ["Connecting…", "连接中…"],
  "reconnecting": ["Connection lost. Trying again…", "连接中断，正在重试…"],
  "queued": ["In the queue: place {position}", "排队中：第 {position} 位"],
  "choose": ["Choose a scene, or describe one", "选择或描述一个场景"],
  "waiting": ["Waiting for the show to begin", "等待节目开始"],
  "making": ["Making your scene…", "正在生成场景…"],
  "refused": ["This scene cannot be opened here.", "无法在此处打开该场景。"],
  "failed": ["That scene could not be made.", "该场景生成失败。"],
};

/**
 * @param {string} language a tag of BCP 47
 * @returns {(key: string, blanks?: Record<string, string | number>) => string}
 */
export function textsIn(language) {
  const index = language.toLowerCase().startsWith("zh") ? 1 : 0;
  return (key, blanks = {}) => TEXTS[key][index].replace(/{(\w+)}/g, (_, name) => String(blanks[name]));
}
