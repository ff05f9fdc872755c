/**
 * The studio's texts in English and Chinese, beside those that all pages share.
 *
 * @module texts
 */

/** @type {Record<string, [english: string, chinese: string]>} */
export const STUDIO_TEXTS = {
  "title": ["Sceneshift studio", "Sceneshift 演播间"],
  "studio.title": ["Studio", "演播间"],
  "studio.skip": ["Skip to the picture", "跳到画面"],
  "studio.console": ["Console", "控制台"],
  "studio.theme": ["Light or dark", "浅色或深色"],
  "studio.picture": ["Picture: drag to move, wheel to resize", "画面：拖动可移动，滚轮可缩放"],
  "studio.keys": [
    "On the picture: drag or arrow keys move you, wheel or + and − resize, M mirrors, H hides the controls, O opens the output window.",
    "在画面上：拖动或方向键移动，滚轮或 + − 缩放，M 镜像，H 隐藏控件，O 打开输出窗口。",
  ],
  "studio.hint.start": ["Start your camera. It stays on this computer: only this page sees it.", "启动摄像头。画面只留在这台电脑上，仅本页面可见。"],

  "scene.off": ["No stage", "未选舞台"],
  "scene.connecting": ["Scene connecting", "场景连接中"],
  "scene.playing": ["Scene live", "场景直播中"],
  "scene.waiting": ["Scene waiting", "等待场景"],
  "scene.no_stage": [
    "There is no stage “{stage}” now. Start it in the console; it is tried again by itself.",
    "现在没有名为“{stage}”的舞台。请在控制台启动，本页会自动重试。",
  ],
  "scene.no_token": [
    "This server wants an access token: open the studio with #token=… at the end of its address, as in the address that the server printed.",
    "此服务器需要访问令牌：请在演播间地址末尾加上 #token=…（与服务器打印的地址相同）。",
  ],
  "scene.full": ["The stage has all the viewers it may have. It is tried again by itself.", "该舞台观众已满，本页会自动重试。"],
  "scene.lost": ["The scene was interrupted and is being connected again.", "场景中断，正在重新连接。"],
  "scene.title": ["Scene", "场景"],
  "scene.stage": ["Stage", "舞台"],
  "scene.placeholder": ["its name, as the console shows it", "舞台名称，控制台中可见"],
  "scene.watch": ["Watch", "观看"],
  "scene.background": ["Behind you", "背景"],
  "scene.background.scene": ["Scene", "场景"],
  "scene.background.green": ["Green", "绿幕"],
  "scene.background.blue": ["Blue", "蓝幕"],
  "scene.fit": ["Scene fit", "场景适配"],
  "scene.fit.cover": ["Fill", "填满"],
  "scene.fit.contain": ["Whole", "完整"],

  "camera.title": ["Camera", "摄像头"],
  "camera.start": ["Start camera", "启动摄像头"],
  "camera.stop": ["Stop camera", "停止摄像头"],
  "camera.device": ["Device", "设备"],
  "camera.device.any": ["The browser's choice", "由浏览器选择"],
  "camera.device.nameless": ["Camera {number}", "摄像头 {number}"],
  "camera.mirror": ["Mirror", "镜像"],
  "camera.size": ["Size", "大小"],
  "camera.x": ["Left – right", "左右位置"],
  "camera.y": ["Up – down", "上下位置"],
  "camera.opacity": ["Opacity", "不透明度"],
  "camera.off": ["Camera off", "摄像头关闭"],
  "camera.opening": ["Camera starting", "摄像头启动中"],
  "camera.live": ["Camera on", "摄像头开启"],
  "camera.failed": ["No camera", "无摄像头"],
  "camera.problem.insecure": [
    "Browsers give the camera only to pages from https or from this computer itself. If the server runs on this computer, open {address} ; from another computer it must be reached by https.",
    "浏览器仅允许 https 页面或本机页面使用摄像头。若服务器就在这台电脑上，请打开 {address} ；从其他电脑访问则须使用 https。",
  ],
  "camera.problem.unsupported": [
    "This browser cannot use a camera. A current Chrome, Edge, Firefox or Safari can.",
    "此浏览器无法使用摄像头，请使用新版 Chrome、Edge、Firefox 或 Safari。",
  ],
  "camera.problem.denied": [
    "The camera was not allowed. Allow it at the camera or lock symbol beside the address, then start it again. It may also be turned off for the browser in the system's privacy settings.",
    "摄像头未被允许。请点击地址栏旁的摄像头或锁形图标允许后重新启动；也请检查系统隐私设置是否对浏览器关闭了摄像头。",
  ],
  "camera.problem.not_found": ["There is no camera. Plug one in and start it again.", "未找到摄像头，请接入后重新启动。"],
  "camera.problem.in_use": [
    "The camera could not be started. Most often another program holds it: close that (or take OBS's virtual camera here) and start again.",
    "摄像头无法启动，通常是被其他程序占用：请关闭该程序（或在此选择 OBS 虚拟摄像头）后重试。",
  ],
  "camera.problem.lost": ["The camera is gone: unplugged, or no longer allowed. Start it again.", "摄像头已断开或权限被收回，请重新启动。"],
  "camera.problem.other": ["The camera could not be started. The browser's console says why.", "摄像头无法启动，原因见浏览器控制台。"],

  "edge.title": ["Cut-out", "抠像"],
  "edge.cutOut": ["Cut me out", "抠出人像"],
  "edge.softness": ["Edge softness", "边缘柔和度"],
  "edge.shift": ["Edge in – out", "边缘内缩 – 外扩"],
  "edge.wrap": ["Light of the scene", "场景环境光"],
  "edge.loading": ["Loading the cut-out (3 MB, once)", "正在加载抠像模型（3 MB，仅一次）"],
  "edge.figures": ["Cut out {rate} times a second, {ms} ms each", "每秒抠像 {rate} 次，每次 {ms} 毫秒"],
  "edge.slow": [
    "This computer is slow at cutting you out (the figure stands at “Cut-out”), so it is done less often and the edge lags behind you. Close other programs, take fewer lines at “Output”, or use a real green screen in OBS.",
    "此电脑抠像较慢（数值见“抠像”），因此降低了频率，边缘会滞后。请关闭其他程序、在“输出”中降低分辨率，或在 OBS 中使用真实绿幕。",
  ],
  "edge.problem.no_simd": [
    "This browser cannot cut you out (no WebAssembly SIMD), so the camera is not shown. A current Chrome, Edge, Firefox or Safari can. Without “Cut me out” the whole camera picture is shown.",
    "此浏览器无法抠像（不支持 WebAssembly SIMD），因此不显示摄像头。新版 Chrome、Edge、Firefox 或 Safari 可以。取消“抠出人像”可显示整个摄像头画面。",
  ],
  "edge.problem.load": [
    "The cut-out could not be loaded, so the camera is not shown: {message}. Stop the camera and start it again to retry.",
    "抠像模型加载失败，因此不显示摄像头：{message}。请停止并重新启动摄像头重试。",
  ],
  "edge.problem.lost": [
    "The cut-out stopped, so the camera is not shown: {message}. Stop the camera and start it again.",
    "抠像已停止，因此不显示摄像头：{message}。请停止并重新启动摄像头。",
  ],
  "edge.problem.no_webgl": [
    "This browser has no WebGL2 (turned off, or no graphics driver), which the picture is made with. Turn on hardware acceleration in its settings, or take another browser.",
    "此浏览器没有 WebGL2（被关闭或缺少显卡驱动），无法合成画面。请在设置中开启硬件加速，或更换浏览器。",
  ],

  "crop.title": ["Crop the camera", "裁剪摄像头画面"],
  "crop.cropLeft": ["Left", "左"],
  "crop.cropRight": ["Right", "右"],
  "crop.cropTop": ["Top", "上"],
  "crop.cropBottom": ["Bottom", "下"],

  "output.title": ["Output", "输出"],
  "output.open": ["Open output window", "打开输出窗口"],
  "output.front": ["Output window to the front", "将输出窗口置前"],
  "output.blocked": ["The browser blocked the window. Allow pop-ups for this address and press again.", "浏览器拦截了窗口，请允许本地址弹出窗口后重试。"],
  "output.help": [
    "In OBS add a Window Capture and choose “Sceneshift studio output”. Keep that window uncovered: browsers stop painting what nobody can see.",
    "在 OBS 中添加“窗口采集”，选择“Sceneshift studio output”。请勿遮挡该窗口：浏览器不会绘制看不见的窗口。",
  ],
  "output.resolution": ["Lines", "分辨率"],
  "output.label": ["“AI-generated” in the corner", "角落显示“AI 生成”"],
  "output.label.text": ["AI-generated background", "背景由 AI 生成"],
  "output.fullscreen": ["Full screen", "全屏"],
  "output.hide": ["Hide controls", "隐藏控件"],
  "output.reset": ["Reset me", "重置人像"],
};
