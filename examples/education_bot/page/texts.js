/**
 * What the page says, in English and Chinese, and the embedded model's words as a child knows them.
 *
 * @module texts
 */

/** @typedef {"en" | "zh"} Language */

/** @type {Record<string, Record<Language, string>>} */
const TEXTS = {
  title: { en: "Ask and see", zh: "问一问，看一看" },
  skip: { en: "To the question", zh: "跳到提问" },
  hint: { en: "Ask something, and watch the answer.", zh: "提个问题，看答案变成画面。" },
  label: { en: "AI-made picture", zh: "AI 生成画面" },
  picture: { en: "The picture", zh: "画面" },
  chat: { en: "The conversation", zh: "对话" },
  suggestions: { en: "Questions to try", zh: "可以问的问题" },
  question: { en: "Your question", zh: "你的问题" },
  placeholder: { en: "How does a volcano erupt?", zh: "火山是怎么喷发的？" },
  ask: { en: "Ask", zh: "提问" },
  connecting: { en: "connecting", zh: "连接中" },
  live: { en: "ready", zh: "已就绪" },
  waiting: { en: "trying again", zh: "重试中" },
  full: { en: "Many children are here right now. I try again by myself.", zh: "现在来的小朋友很多，我会自己再试。" },
  queued: { en: "You are number {0} in the line.", zh: "你排在第 {0} 位。" },
  no_stage: { en: "The picture machine is away. I try again by myself.", zh: "画画的机器不在，我会自己再试。" },
  making: { en: "The picture is being made …", zh: "正在画……" },
  on_air: { en: "Here it is: {0}", zh: "画好了：{0}" },
  on_air_plain: { en: "Here it is.", zh: "画好了。" },
  failed: { en: "The picture did not work out this time. Ask again?", zh: "这次没画出来，再问一次好吗？" },
  not_understood: { en: "I cannot draw this yet: {0}. I drew what I know.", zh: "我还不会画：{0}。会画的我都画了。" },
  no_language_model: {
    en: "From my own little book: the clever helper is away.",
    zh: "聪明的助手不在，这是我自己的小书里写的。",
  },
};

/** @type {Record<Language, string[]>} */
export const SUGGESTIONS = {
  en: ["How does a volcano erupt?", "Why can a rocket fly in space?", "How do fish breathe?", "Why is the sunset red?"],
  zh: ["火山是怎么喷发的？", "火箭为什么能在太空里飞？", "鱼怎么呼吸？", "日落为什么是红色的？"],
};

/** @type {Record<string, string>} */
const WORDS_ZH = {
  beach: "海滩",
  sea: "大海",
  mountains: "高山",
  forest: "森林",
  city: "城市",
  volcano: "火山",
  underwater: "水下",
  space: "太空",
  day: "白天",
  sunset: "日落",
  night: "夜晚",
  dawn: "清晨",
  sailboat: "帆船",
  bird: "小鸟",
  fish: "鱼",
  rocket: "火箭",
  car: "汽车",
  dog: "小狗",
  balloon: "热气球",
  dancer: "跳舞的人",
  red: "红色",
  blue: "蓝色",
  yellow: "黄色",
  green: "绿色",
  purple: "紫色",
  white: "白色",
  left: "向左",
  right: "向右",
};

/**
 * @param {Language} language
 * @param {string} key
 * @param {...string | number} values
 */
export function text(language, key, ...values) {
  const found = TEXTS[key];
  if (found === undefined) throw new Error(`no text ${key}`);
  return found[language].replace(/\{(\d)\}/g, (_whole, index) => String(values[Number(index)]));
}

/**
 * The model's words, as a list for the reader.
 *
 * @param {Language} language
 * @param {string[]} words
 */
export function wordList(language, words) {
  return language === "zh" ? words.map((word) => WORDS_ZH[word] ?? word).join("、") : words.join(", ");
}
