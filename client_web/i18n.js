/**
 * The page's texts in English and Chinese. Elements say what they show with `data-i18n`, `data-i18n-label` (aria-label)
 * and `data-i18n-placeholder`; scripts ask `t`.
 *
 * @module i18n
 */

const STORAGE_KEY = "sceneshift.language";

/** @type {Record<string, [english: string, chinese: string]>} */
const TEXTS = {
  "title": ["Sceneshift · live scenes from prompts", "Sceneshift · 一句话切换直播场景"],
  "skip": ["Skip to the prompt", "跳到提示词"],
  "language.other": ["中文", "English"],
  "language.label": ["Switch the language to Chinese", "切换为英文"],

  "tally.lost": ["No signal", "无信号"],
  "tally.idle": ["Standing by", "待机"],
  "tally.preview": ["Preview on air", "预览播出中"],
  "tally.clip": ["On air", "播出中"],
  "tally.blank": ["Blanked", "已黑屏"],

  "connection.closed": ["Disconnected", "未连接"],
  "connection.connecting": ["Connecting", "连接中"],
  "connection.starting": ["Connecting", "连接中"],
  "connection.queued": ["In the queue for a stage: place {position}", "正在排队等待舞台：第 {position} 位"],
  "connection.queued_for": [
    "In the queue for a stage: place {position}, about {minutes} min",
    "正在排队等待舞台：第 {position} 位，约 {minutes} 分钟",
  ],
  "connection.resuming": ["Resuming", "恢复会话"],
  "connection.live": ["Connected", "已连接"],
  "connection.waiting": ["Reconnecting", "重新连接中"],
  "connection.refused": ["Refused", "被拒绝"],
  "connection.retry": ["Retry now", "立即重试"],

  "engine.unknown": ["Engine unknown", "引擎未知"],
  "engine.starting": ["Engine loading", "引擎加载中"],
  "engine.ready": ["Engine ready", "引擎就绪"],
  "engine.recovering": ["Engine recovering", "引擎恢复中"],
  "engine.failed": ["Engine failed", "引擎故障"],
  "engine.closed": ["Engine closed", "引擎已关闭"],

  "program.title": ["Program", "节目"],
  "program.hint": ["Describe a scene. It goes live in seconds.", "描述一个场景，几秒后即可播出。"],
  "program.loading": ["The engine is warming up. You can send a prompt already.", "引擎预热中，您可以先发送提示词。"],
  "program.lost": ["No connection to the server", "尚未连接到服务器"],
  "program.no_video": ["Waiting for the video", "正在等待视频"],
  "program.blanked": ["Blanked. Your viewers see black.", "已黑屏，观众看到的是黑色画面。"],
  "program.ai_label": ["AI-generated", "AI 生成"],
  "program.fullscreen": ["Full screen", "全屏"],
  "program.fullscreen_exit": ["Leave full screen", "退出全屏"],

  "prompt.label": ["Prompt", "提示词"],
  "prompt.placeholder": ["Describe the next scene", "描述下一个场景"],
  "prompt.send": ["Send", "发送"],
  "prompt.not_connected": [
    "Not connected, so nothing was sent. Your text is still here.",
    "尚未连接，没有发送。您的文字仍保留。",
  ],
  "examples.title": ["Examples", "示例"],

  "next.title": ["Next", "下一个"],
  "next.empty": ["Nothing in the making", "暂无生成任务"],
  "next.empty_hint": ["Each denoising step will appear here.", "每一步去噪的画面会依次出现在这里。"],
  "next.step": ["Step {done} of {total}", "第 {done} 步，共 {total} 步"],
  "next.queued": ["Waiting for the engine", "等待引擎"],
  "next.decoding": ["Decoding the clip", "正在解码"],
  "next.ready": ["Ready to take", "可以切入"],
  "next.on_air": ["Now on air", "已播出"],
  "next.again": ["Made again after an engine loss, attempt {attempt}", "引擎恢复后重新生成，第 {attempt} 次"],
  "next.strip": ["Preview after each denoising step", "每一步去噪后的预览"],
  "next.understood": ["Understood", "已理解"],
  "next.not_understood": ["Not understood", "未理解"],
  "next.cancel": ["Cancel", "取消"],

  "take.take": ["Take", "切入"],
  "take.blank": ["Blank", "黑屏"],
  "take.resume": ["Resume", "恢复"],
  "take.label": ["Put the waiting clip on air", "播出等待中的片段"],
  "take.blank_label": ["Panic button: black at once", "紧急按钮：立即黑屏"],

  "options.title": ["Settings", "设置"],
  "options.quality": ["Quality", "质量"],
  "options.quality.fast": ["Fast", "快速"],
  "options.quality.fine": ["Fine", "精细"],
  "options.transition": ["Transition", "转场"],
  "options.transition.crossfade": ["Crossfade", "淡入淡出"],
  "options.transition.cut": ["Cut", "硬切"],
  "options.transition.morph": ["Morph", "形变"],
  "options.after": ["At the end", "结束后"],
  "options.after.loop": ["Loop", "循环"],
  "options.after.continue": ["Go on", "延续"],
  "options.after.hold": ["Hold", "定格"],
  "options.cannot": ["This model cannot start a clip from a given frame", "当前模型不能从指定画面开始生成"],
  "options.fresh": ["Always make anew", "总是重新生成"],
  "options.fresh.hint": ["Never show a clip that was made before", "不使用以前生成过的片段"],
  "options.lora": ["LoRA", "LoRA 风格"],
  "options.lora.none": ["None", "无"],
  "options.on_preview": ["Previews", "预览"],
  "options.on_preview.on_air": ["On air", "播出"],
  "options.on_preview.controller": ["Only here", "仅此处"],
  "options.on_preview.off": ["Off", "关闭"],
  "options.take": ["Take", "切入"],
  "options.take.auto": ["Auto", "自动"],
  "options.take.manual": ["Manual", "手动"],

  "times.title": ["Latency", "延迟"],
  "times.preview": ["Prompt to preview", "提示词到预览"],
  "times.picture": ["Prompt to picture", "提示词到画面"],
  "times.glass": ["on this screen", "本屏幕"],
  "times.server": ["server {time}", "服务器 {time}"],
  "times.where": ["Where the time went", "时间去向"],
  "times.queued": ["queued", "排队"],
  "times.text": ["text", "文本编码"],
  "times.denoised": ["denoising", "去噪"],
  "times.previewed": ["previews", "预览"],
  "times.decoded": ["decoding", "解码"],
  "times.composed": ["composing", "合成"],
  "times.encoded": ["encoding", "编码"],
  "times.other": ["waiting and sending", "等待与发送"],
  "times.none": ["Send a prompt to measure", "发送提示词后开始测量"],

  "history.title": ["Rundown", "播出单"],
  "history.empty": ["Your prompts will be listed here. Pick one to fire it again.", "您的提示词会列在这里，点击可再次播出。"],
  "history.again": ["Fire again: {text}", "再次播出：{text}"],
  "history.reused": ["reused", "复用"],
  "history.reused.hint": ["Made before, so it was on air at once", "以前生成过，立即播出"],
  "history.degraded": ["simplified", "降级"],
  "history.preview": ["preview {time}", "预览 {time}"],
  "history.picture": ["picture {time}", "画面 {time}"],

  "prompt.state.sent": ["Sent", "已发送"],
  "prompt.state.accepted": ["Queued", "排队中"],
  "prompt.state.started": ["Making", "生成中"],
  "prompt.state.ready": ["Ready", "待切入"],
  "prompt.state.applied": ["Played", "已播出"],
  "prompt.state.on_air": ["On air", "播出中"],
  "prompt.state.superseded": ["Superseded", "被取代"],
  "prompt.state.cancelled": ["Cancelled", "已取消"],
  "prompt.state.rejected": ["Rejected", "被拒绝"],
  "prompt.state.failed": ["Failed", "失败"],
  "prompt.state.lost": ["Lost", "已丢失"],

  "announce.applied": ["On air: {text}", "已播出：{text}"],
  "announce.ready": ["Ready to take: {text}", "可以切入：{text}"],
  "announce.ended": ["{state}: {text}", "{state}:{text}"],

  "stats.label": ["Statistics", "统计"],
  "stats.sent": ["Sent", "发送"],
  "stats.shown": ["Shown here", "本机显示"],
  "stats.play_ratio": ["Continuous play", "连续播放率"],
  "stats.max_gap": ["Longest gap", "最大间隔"],
  "stats.bitrate": ["Bitrate", "码率"],
  "stats.viewers": ["Viewers", "观众"],
  "stats.model": ["Model", "模型"],
  "stats.keys": ["Keys", "快捷键"],
  "stats.key.take": ["take", "切入"],
  "stats.key.blank": ["blank", "黑屏"],
  "stats.key.examples": ["examples", "示例"],

  "toast.close": ["Dismiss", "关闭"],
  "toast.technical": ["Something went wrong in this page: {message}", "页面出错：{message}"],
  "warning.engine_lost": [
    "The engine was lost. The program goes on; your prompt is made again.",
    "引擎中断。节目继续播出，提示词将重新生成。",
  ],
  "warning.engine_recovered": ["The engine is back.", "引擎已恢复。"],
  "warning.engine_ready": ["The engine is ready.", "引擎已就绪。"],
  "warning.engine_failed": ["The engine cannot be started again.", "引擎无法重新启动。"],
  "warning.degraded": [
    "The engine is short of time: clips are made simpler to be on time.",
    "引擎时间紧张：为按时播出，片段已简化生成。",
  ],
  "warning.recovered": ["Clips are made in full quality again.", "片段已恢复完整质量。"],
  "warning.continuation_failed": ["The scene could not go on, so it loops.", "场景无法延续，已改为循环。"],
  "warning.not_supported": ["The model cannot do some of the settings, so they were reset.", "当前模型不支持部分设置，已重置。"],
  "warning.draining": ["The server is about to restart.", "服务器即将重启。"],
  "error.prompt_empty": ["Write something first.", "请先输入内容。"],
  "error.prompt_too_long": ["That prompt is too long; 2000 characters are the limit.", "提示词过长，最多 2000 个字符。"],
  "error.engine_unavailable": ["The engine cannot work at the moment.", "引擎暂时不可用。"],
  "error.engine_busy": ["The engine has too much to do. Try again in a moment.", "引擎繁忙，请稍后再试。"],
  "error.nothing_to_take": ["There is no clip to take yet.", "暂无可切入的片段。"],
  "error.server_full": ["All stages of this server are taken. Trying again soon.", "服务器舞台已满，稍后自动重试。"],
  "error.not_supported": ["This model cannot do that.", "当前模型不支持该操作。"],
  "error.too_late": ["Too late to cancel: it is on its way to air.", "来不及取消，即将播出。"],
  "error.rate_limited": ["Too many prompts in a short time. Wait a moment.", "提示词发送过快，请稍候。"],
  "error.unauthorized": ["This server wants an access token: open the address that it printed.", "此服务器需要访问令牌，请打开它打印的地址。"],
  "error.video": ["The video was interrupted and is being connected again.", "视频中断，正在重新连接。"],
};

const LANGUAGES = /** @type {const} */ (["en", "zh"]);

/** @type {"en" | "zh"} */
let language = "en";

/** The stored choice, else what the browser asks for. */
export function chooseLanguage() {
  const stored = storage()?.getItem(STORAGE_KEY);
  const wanted = stored ?? navigator.language;
  setLanguage(wanted.toLowerCase().startsWith("zh") ? "zh" : "en");
}

/** @returns {"en" | "zh"} */
export function currentLanguage() {
  return language;
}

export function toggleLanguage() {
  setLanguage(language === "en" ? "zh" : "en");
  storage()?.setItem(STORAGE_KEY, language);
}

/**
 * The text under `key`, its `{names}` filled in. An unknown key is a mistake of ours and raises.
 *
 * @param {string} key
 * @param {Record<string, string | number>} [values]
 * @returns {string}
 */
export function t(key, values = {}) {
  const texts = TEXTS[key];
  if (texts === undefined) throw new Error(`no text for ${key}`);
  return texts[LANGUAGES.indexOf(language)].replace(/\{(\w+)\}/g, (whole, name) => String(values[name] ?? whole));
}

/**
 * @param {string} key
 * @returns {boolean}
 */
export function hasText(key) {
  return key in TEXTS;
}

/**
 * A duration for people: 62 ms, 0.31 s, 12.4 s.
 *
 * @param {number} ms
 */
export function duration(ms) {
  if (ms < 99.5) return `${ms.toFixed(0)} ms`;
  return `${(ms / 1000).toFixed(ms < 9995 ? 2 : 1)} s`;
}

/** @param {"en" | "zh"} next */
function setLanguage(next) {
  language = next;
  document.documentElement.lang = next === "zh" ? "zh-Hans" : "en";
  document.title = t("title");
  for (const element of document.querySelectorAll("[data-i18n]")) {
    element.textContent = t(/** @type {HTMLElement} */ (element).dataset.i18n ?? "");
  }
  for (const element of document.querySelectorAll("[data-i18n-label]")) {
    const label = t(/** @type {HTMLElement} */ (element).dataset.i18nLabel ?? "");
    element.setAttribute("aria-label", label);
    if (element instanceof HTMLButtonElement) element.title = label;
  }
  for (const element of document.querySelectorAll("[data-i18n-placeholder]")) {
    element.setAttribute("placeholder", t(/** @type {HTMLElement} */ (element).dataset.i18nPlaceholder ?? ""));
  }
}

/** A page with storage blocked still works; it only forgets. */
export function storage() {
  try {
    return window.localStorage;
  } catch {
    return null;
  }
}
