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
  "language.label": ["中文: switch to Chinese", "English：切换为英文"],

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

  "program.hint": ["Describe a scene. It goes live in seconds.", "描述一个场景，几秒后即可播出。"],
  "program.lost": ["No connection to the server yet", "尚未连接到服务器"],
  "program.held": [
    "Connection lost, reconnecting by itself. This is the last picture seen here.",
    "连接中断，正在自动重连。这是此处最后看到的画面。",
  ],
  "program.refused": ["The server refused this console. Nothing goes on by itself.", "服务器拒绝了此控制台，不会自动恢复。"],
  "program.mute": ["Mute here", "在此静音"],
  "program.unmute": ["Listen here", "在此收听"],
  "program.title": ["Program", "节目"],
  "program.loading": ["The engine is warming up. You can send a prompt already.", "引擎预热中，您可以先发送提示词。"],
  "program.no_video": ["Waiting for the video", "正在等待视频"],
  "program.blanked": ["Blanked. Your viewers see black.", "已黑屏，观众看到的是黑色画面。"],
  "program.ai_label": ["AI-generated", "AI 生成"],
  "program.fullscreen": ["Full screen", "全屏"],
  "program.fullscreen_exit": ["Leave full screen", "退出全屏"],

  "prompt.label": ["Prompt", "提示词"],
  "prompt.placeholder": ["Describe the next scene", "描述下一个场景"],
  "prompt.star": ["Add to the favourites", "加入收藏"],
  "prompt.unstar": ["Remove from the favourites", "取消收藏"],
  "prompt.plan": ["Add to the rundown (Ctrl+Enter)", "加入播出单（Ctrl+Enter）"],
  "prompt.planned": ["Added to the rundown.", "已加入播出单。"],
  "prompt.send": ["Send", "发送"],
  "prompt.not_connected": [
    "Not connected, so nothing was sent. Your text is still here.",
    "尚未连接，没有发送。您的文字仍保留。",
  ],

  "next.title": ["Preview", "预监"],
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

  "favourites.title": ["Favourites", "收藏"],
  "favourites.edit": ["Edit", "编辑"],
  "favourites.done": ["Done", "完成"],
  "favourites.reset": ["Back to the examples", "恢复示例"],
  "favourites.empty": ["No favourites. Star a prompt to keep it here.", "暂无收藏。点击星标即可收藏提示词。"],
  "favourites.earlier": ["Move earlier: {text}", "前移：{text}"],
  "favourites.later": ["Move later: {text}", "后移：{text}"],
  "favourites.remove": ["Remove from the favourites: {text}", "取消收藏：{text}"],

  "rundown.title": ["Rundown", "播出单"],
  "rundown.empty": [
    "Prepare the show here: add prompts, put them in order, then fire them one by one or by timer.",
    "在此准备节目：添加提示词、排好顺序，然后逐条播出或定时播出。",
  ],
  "rundown.add": ["Add", "添加"],
  "rundown.add_title": ["Add to the rundown", "加入播出单"],
  "rundown.edit_title": ["Edit", "编辑"],
  "rundown.import": ["Import", "导入"],
  "rundown.export": ["Export", "导出"],
  "rundown.next": ["Fire next", "播出下一条"],
  "rundown.timer.start": ["Start timer", "开始定时"],
  "rundown.timer.pause": ["Pause", "暂停"],
  "rundown.timer.resume": ["Go on", "继续"],
  "rundown.timer.stop": ["Stop", "停止"],
  "rundown.next_in.running": ["Next in {left}", "{left} 后播下一条"],
  "rundown.next_in.paused": ["Paused, {left} left", "已暂停，剩余 {left}"],
  "rundown.ends_in": ["Ends in {left}", "{left} 后结束"],
  "rundown.at_end": ["That was the last one of the rundown.", "播出单已播完。"],
  "rundown.each": ["s each", "秒/条"],
  "rundown.repeat": ["Begin again after the last one", "播完后从头循环"],
  "rundown.fire": ["Fire: {text}", "播出：{text}"],
  "rundown.up": ["Move up: {text}", "上移：{text}"],
  "rundown.down": ["Move down: {text}", "下移：{text}"],
  "rundown.edit": ["Edit: {text}", "编辑：{text}"],
  "rundown.text": ["Prompt", "提示词"],
  "rundown.note": ["Note, seen only here", "备注（仅此处可见）"],
  "rundown.hold": ["Seconds until the next one", "距下一条的秒数"],
  "rundown.hold.empty": ["as all others", "与其他条目相同"],
  "rundown.save": ["Save", "保存"],
  "rundown.cancel": ["Cancel", "取消"],
  "rundown.delete": ["Delete", "删除"],
  "rundown.undo": ["Undo", "撤销"],
  "rundown.removed": ["Removed: {text}", "已删除：{text}"],
  "rundown.imported": ["Imported: {count} prompts.", "已导入 {count} 条提示词。"],
  "rundown.error.not_json": ["This file is not JSON. Nothing was changed.", "此文件不是 JSON，未作更改。"],
  "rundown.error.not_a_rundown": ["This file is not a rundown. Nothing was changed.", "此文件不是播出单，未作更改。"],
  "rundown.error.unsupported_version": [
    "This rundown has version {at}; only version 1 can be read. Nothing was changed.",
    "此播出单版本为 {at}，仅支持版本 1，未作更改。",
  ],
  "rundown.error.wrong_type": ["{at} is of the wrong kind. Nothing was changed.", "{at} 类型不正确，未作更改。"],
  "rundown.error.missing_field": ["{at} is missing. Nothing was changed.", "缺少 {at}，未作更改。"],
  "rundown.error.unknown_field": ["{at} is not known. Nothing was changed.", "未知字段 {at}，未作更改。"],
  "rundown.error.out_of_range": ["{at} is too long, too short or out of range. Nothing was changed.", "{at} 超出范围，未作更改。"],

  "transport.label": ["Transition", "转场"],
  "take.none": ["No clip waits to be taken", "没有等待切入的片段"],
  "take.auto": ["Clips go on air by themselves. Choose Manual to take them by hand.", "片段会自动播出。选择“手动”可由您切入。"],
  "take.label": ["Put the waiting clip on air", "播出等待中的片段"],
  "take.take": ["Take", "切入"],
  "take.blank": ["Blank", "黑屏"],
  "take.resume": ["Resume", "恢复"],
  "take.blank_label": ["Panic button: black at once", "紧急按钮：立即黑屏"],

  "options.title": ["Settings", "设置"],
  "options.quality": ["Quality", "质量"],
  "options.quality.fast": ["Fast", "快速"],
  "options.quality.fine": ["Fine", "精细"],
  "options.transition": ["Transition", "转场"],
  "options.transition_s": ["Duration", "时长"],
  "options.transition_s.cut": ["A cut has no duration", "硬切没有时长"],
  "options.transition.crossfade": ["Crossfade", "淡入淡出"],
  "options.transition.cut": ["Cut", "硬切"],
  "options.transition.morph": ["Morph", "形变"],
  "options.after": ["After the clip", "片段结束后"],
  "options.after.loop": ["Loop", "循环"],
  "options.after.continue": ["Go on", "延续"],
  "options.after.hold": ["Hold", "定格"],
  "options.cannot": ["Needs a model that can start from a frame", "需要能从指定画面开始生成的模型"],
  "options.seed": ["Seed", "种子"],
  "options.seed.random": ["Random for each prompt", "每次随机"],
  "options.seed.used": ["Random, last: {seed}", "随机，上次：{seed}"],
  "options.seed.lock": ["Lock", "锁定"],
  "options.seed.unlock": ["Locked", "已锁定"],
  "options.seed.lock_hint": ["Use the last seed for every prompt from now on", "之后的提示词都使用上次的种子"],
  "options.seed.unlock_hint": ["Back to a random seed for each prompt", "恢复为每次随机"],
  "options.seed.none": ["No seed was used yet", "还没有用过的种子"],
  "options.seed.invalid": ["A seed is a whole number from 0 on", "种子是从 0 开始的整数"],
  "options.music": ["Music", "音乐"],
  "options.music.none": ["Silence", "静音"],
  "options.music_volume": ["Volume of the music", "音乐音量"],
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

  "history.title": ["Played", "播出记录"],
  "history.empty": ["Every prompt is kept here with its times. Pick one to fire it again.", "每条提示词及其用时都会记录在此，点击可再次播出。"],
  "history.star": ["Add to the favourites: {text}", "加入收藏：{text}"],
  "history.plan": ["Add to the rundown: {text}", "加入播出单：{text}"],
  "history.life": ["Every step of: {text}", "全部过程：{text}"],
  "life.sent": ["Sent", "已发送"],
  "life.accepted": ["Accepted", "已接收"],
  "life.seed": ["lock seed {seed}", "锁定种子 {seed}"],
  "life.started": ["Started, {steps} steps", "开始生成，共 {steps} 步"],
  "life.reused": ["Made before: no steps needed", "以前生成过，无需再生成"],
  "life.step": ["Step {done} of {total}", "第 {done} / {total} 步"],
  "life.preview_glass": ["Preview on this screen", "预览显示在本屏幕"],
  "life.picture_glass": ["Clip on this screen", "片段显示在本屏幕"],
  "life.ready": ["Ready to take", "可以切入"],
  "life.applied": ["On air", "已播出"],
  "life.superseded": ["Superseded by a newer prompt", "被更新的提示词取代"],
  "life.superseded_by": ["Superseded by “{text}”", "被“{text}”取代"],
  "life.cancelled": ["Cancelled", "已取消"],
  "life.rejected": ["Rejected", "被拒绝"],
  "life.failed": ["Failed", "失败"],
  "life.lost": ["Lost: the server was restarted or the session ended", "丢失：服务器重启或会话结束"],
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
  "stats.drops": ["Drops", "丢帧"],
  "stats.sent": ["Sent", "发送"],
  "stats.shown": ["Shown here", "本机显示"],
  "stats.play_ratio": ["Continuous play", "连续播放率"],
  "stats.max_gap": ["Longest gap", "最大间隔"],
  "stats.bitrate": ["Bitrate", "码率"],
  "stats.viewers": ["Viewers", "观众"],
  "stats.model": ["Model", "模型"],

  "plot.title": ["Last five minutes", "最近五分钟"],
  "plot.preview": ["preview", "预览"],
  "plot.picture": ["picture", "画面"],
  "plot.gap": ["frames missed", "缺帧"],
  "plot.summary": [
    "Last five minutes. Prompts: {prompts}. Prompt to picture, median: {median}. Seconds with missed frames: {gaps}.",
    "最近五分钟：提示词 {prompts} 条，提示词到画面的中位数 {median}，有缺帧的秒数 {gaps}。",
  ],

  "tools.label": ["Tools", "工具"],
  "theme.toggle": ["Light or dark", "浅色或深色"],
  "recording.start": ["Record", "录制"],
  "recording.stop": ["Stop recording", "停止录制"],
  "recording.download": ["Download ({megabytes} MB)", "下载（{megabytes} MB）"],
  "help.title": ["Keys", "快捷键"],
  "help.take": ["Take the clip that waits", "切入等待中的片段"],
  "help.blank": ["Blank, from anywhere", "随时黑屏"],
  "help.favourites": ["Fire a favourite", "播出收藏"],
  "help.next": ["Fire the next one of the rundown", "播出播出单的下一条"],
  "help.write": ["Write a prompt", "输入提示词"],
  "help.recall": ["In the prompt: what was sent before", "在提示词框中：调出以前发送的内容"],
  "help.plan": ["In the prompt: add it to the rundown", "在提示词框中：加入播出单"],
  "help.move": ["In the rundown: move a row", "在播出单中：移动条目"],
  "help.help": ["This list", "显示此列表"],
  "help.note": [
    "Keys work while you are not writing. Escape blanks even then; only an open sheet like this one takes it to close.",
    "快捷键在未输入文字时有效。Esc 随时可以黑屏；只有像此窗口这样打开时，Esc 才用于关闭窗口。",
  ],
  "share.open": ["Connect", "接入"],
  "share.title": ["Use this stage elsewhere", "在别处使用此舞台"],
  "share.name": ["Name of the stage", "舞台名称"],
  "share.name_invalid": ["3 to 40 of a–z, 0–9 and hyphens.", "3 到 40 个字符：a–z、0–9 和连字符。"],
  "share.rename": ["Rename", "重命名"],
  "share.renamed": ["The stage is called {name} now. Old addresses no longer lead here.", "舞台现名为 {name}，旧地址已失效。"],
  "share.taken": [
    "Another session has the name {name}, so this one is called otherwise until it ends. See Connect.",
    "名称 {name} 已被其他会话使用，本会话暂用别名。请查看“接入”。",
  ],
  "share.none": ["There is no stage yet: the console is not connected.", "尚未连接，还没有舞台。"],
  "share.copy": ["Copy", "复制"],
  "share.copied": ["Copied", "已复制"],
  "share.select": ["Selected. Copy it with Ctrl+C.", "已选中，请按 Ctrl+C 复制。"],
  "share.obs": ["OBS", "OBS"],
  "share.obs.note": ["Add a browser source in OBS and paste this address.", "在 OBS 中添加“浏览器”来源并粘贴此地址。"],
  "share.studio": ["Camera", "摄像头"],
  "share.studio.note": [
    "You before this scene: a page that cuts you out of your webcam's picture, for OBS to capture.",
    "把您放进此场景：该页面从摄像头画面中抠出人像，供 OBS 采集。",
  ],
  "share.curl": ["curl", "curl"],
  "share.curl.note": ["The picture on air now, as a JPEG.", "当前播出画面，JPEG 格式。"],
  "share.javascript": ["JavaScript", "JavaScript"],
  "share.javascript.note": [
    "Shows this stage on a page. A page of another origin must be named in allowed_origins.",
    "在网页中显示此舞台。其他来源的网页需列入 allowed_origins。",
  ],
  "share.python": ["Python", "Python"],
  "share.python.note": ["Sends a prompt to a stage of its own.", "向一个独立的舞台发送提示词。"],

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
  "warning.machine_busy": [
    "This machine is busy: the engine got {percent} % of a core. Scenes take longer.",
    "这台电脑很忙：引擎只得到一个核心的 {percent}%，场景生成会变慢。",
  ],
  "warning.machine_free": ["The engine gets the cores that it needs again.", "引擎重新获得所需的处理器核心。"],
  "warning.continuation_failed": ["The scene could not go on, so it loops.", "场景无法延续，已改为循环。"],
  "warning.not_supported": ["The model cannot do some of the settings, so they were reset.", "当前模型不支持部分设置，已重置。"],
  "warning.draining": ["The server is about to restart.", "服务器即将重启。"],
  "warning.restored": [
    "The server was restarted. “{text}” is being put back on stage.",
    "服务器已重启，正在恢复“{text}”。",
  ],
  "warning.restored_renamed": ["“{text}” is being put back on stage.", "正在恢复“{text}”。"],
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

/**
 * Texts of a page or of what is loaded later, beside or instead of these; a page's before `chooseLanguage`.
 *
 * @param {Record<string, [english: string, chinese: string]>} texts
 */
export function addTexts(texts) {
  Object.assign(TEXTS, texts);
}

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
