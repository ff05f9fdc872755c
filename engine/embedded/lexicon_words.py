"""The words behind the lexicon: English phrases and Chinese words for each concept, and fillers that say nothing.

Add synonyms freely: the concepts are the model's, the words are not. A longer phrase wins over a shorter one.
"""

from __future__ import annotations

# Concept to phrases, separated by commas.
ENGLISH: dict[str, str] = {
    "beach": (
        "beach, seaside, seashore, shore, shoreline, coast, coastline, sandy beach, sand, palm beach, "
        "palm tree, palm, tropical island, tropical beach, by the sea, at the seaside, on the sand, "
        "waterfront, summer holiday, lagoon, bay"
    ),
    "sea": (
        "sea, ocean, open sea, high sea, open ocean, waves, wave, seascape, open water, pacific, atlantic, "
        "marine, on the water, out at sea, ocean view, lake"
    ),
    "mountains": (
        "mountain, mountain range, peak, alps, alpine, hill, hilltop, mountaintop, summit, valley, highland, "
        "himalaya, snowy mountain, snow capped mountain, snow-capped mountain, snowy peak, meadow, everest, "
        "rocky mountain, mount fuji, cliff"
    ),
    "forest": (
        "forest, wood, woodland, jungle, grove, park, rainforest, rain forest, pine forest, pine, garden, "
        "countryside, clearing"
    ),
    "city": (
        "city, town, downtown, street, road, skyline, cityscape, skyscraper, building, urban, metropolis, "
        "avenue, new york, tokyo, shanghai, beijing, london, paris, hong kong, city street, city skyline, "
        "highway, house, village, traffic"
    ),
    "volcano": (
        "volcano, erupting volcano, volcanic eruption, volcano eruption, eruption, erupt, erupting, erupted, "
        "lava, magma, volcanic, crater, lava fountain, molten rock, exploding mountain, volcano erupting, "
        "volcano erupt, fire mountain, vesuvius, etna, krakatoa"
    ),
    "underwater": (
        "underwater, under water, under the sea, undersea, under the ocean, below the sea, sea floor, "
        "seafloor, seabed, ocean floor, bottom of the sea, bottom of the ocean, deep sea, coral reef, coral, "
        "reef, aquarium, seaweed, beneath the waves, beneath the sea, fish tank, diving, scuba, "
        "submarine world, deep ocean, under the waves, kelp"
    ),
    "space": (
        "space, outer space, deep space, cosmos, universe, galaxy, milky way, planet, saturn, jupiter, mars, "
        "orbit, nebula, interstellar, solar system, cosmic, in orbit, astronomy, among the stars, "
        "the stars above, alien planet, starfield, ringed planet"
    ),
    "day": (
        "day, daytime, daylight, noon, midday, afternoon, sunny, sunshine, broad daylight, in the daytime, "
        "at noon, sunny day, bright day, clear day, blue sky, blue skies, by day, during the day, day time, "
        "sunlight, sunlit, summer day"
    ),
    "sunset": (
        "sunset, sundown, dusk, evening, twilight, golden hour, setting sun, nightfall, sun setting, "
        "sun is setting, sun goes down, sun going down, at dusk, in the evening, evening glow, afterglow, "
        "sun sets, sun set"
    ),
    "night": (
        "night, nighttime, night time, midnight, moonlight, moonlit, moon, starry night, at night, by night, "
        "night sky, nocturnal, in the dark, dark, tonight, crescent moon, moonlight night, starry, "
        "under the stars, starry sky"
    ),
    "dawn": (
        "dawn, sunrise, daybreak, morning, early morning, sun up, sunup, first light, rising sun, sun rises, "
        "sun rising, break of day, at dawn, morning light, crack of dawn, misty morning, sun is rising"
    ),
    "sailboat": (
        "sailboat, sailing boat, sail boat, boat, ship, yacht, sailing ship, vessel, sailing yacht, dinghy, "
        "sailing vessel, ferry"
    ),
    "bird": (
        "bird, seagull, gull, eagle, parrot, sparrow, pigeon, dove, songbird, swallow, crow, hawk, robin, "
        "birdie, flying bird, swan, crane"
    ),
    "fish": (
        "fish, goldfish, clownfish, clown fish, tropical fish, nemo, fishes, dolphin, shark, whale, "
        "gold fish, little fish, swimming fish"
    ),
    "rocket": (
        "rocket, spaceship, space ship, spacecraft, rocket ship, rocketship, shuttle, space shuttle, "
        "starship, space rocket, missile"
    ),
    "car": (
        "car, automobile, vehicle, taxi, cab, auto, motorcar, sedan, jeep, truck, sports car, race car, "
        "racing car, motor car, bus, van"
    ),
    "dog": (
        "dog, puppy, pup, doggy, doggie, hound, golden retriever, retriever, labrador, poodle, corgi, husky, "
        "puppies, beagle, terrier, dalmatian"
    ),
    "balloon": "balloon, hot-air balloon, hot air balloon, air balloon, airship, montgolfier, hot-air-balloon",
    "dancer": (
        "dancer, girl, woman, lady, dancing girl, dancing woman, person, ballerina, princess, child, kid, "
        "girl dancing, woman dancing, somebody, someone, people, human, she, her, dress, skirt, gown, "
        "young woman, little girl, young lady, actress"
    ),
    "red": "red, scarlet, crimson, ruby, cherry, vermilion, reddish, bright red, dark red, maroon",
    "blue": (
        "blue, navy, azure, cobalt, light blue, dark blue, sky blue, sky-blue, bluish, sapphire, turquoise, "
        "cyan, teal, indigo, navy blue"
    ),
    "yellow": "yellow, golden, gold, lemon, amber, yellowish, mustard, blond, bright yellow, orange",
    "green": "green, emerald, lime, olive, dark green, light green, jade, mint, greenish",
    "purple": "purple, violet, lilac, lavender, magenta, mauve, plum, pink, purplish",
    "white": "white, snow-white, snow white, snowy white, ivory, cream, silver, pale, whitish",
    "left": (
        "left, leftward, leftwards, to the left, towards the left, toward the left, facing left, "
        "heading left, looking left, going left, left-facing, moving left, turned left"
    ),
    "right": (
        "right, rightward, rightwards, to the right, towards the right, toward the right, facing right, "
        "heading right, looking right, going right, right-facing, moving right, turned right"
    ),
    "big": "big, large, huge, giant, tall, great, enormous, massive",
    "small": "small, little, tiny, cute, lovely little, mini, baby",
    "calm": "calm, quiet, peaceful, serene, gentle, gently, slowly, slow, soft, softly, still, tranquil, relaxing",
    "fast": "fast, quick, quickly, speedy, racing, rapid, wild, stormy",
    "beautiful": (
        "beautiful, pretty, lovely, gorgeous, nice, wonderful, amazing, colourful, colorful, magical, "
        "stunning, bright, dreamy, warm, cool, romantic, happy, epic, cheerful"
    ),
    "water": "water",
    "sky": "sky, skies, air",
    "stars": "star, stars",
    "clouds": "cloud, cloudy",
    "trees": "tree, leaf, leaves",
    "snow": "snow, snowy, ice",
    "dance": "dance, dancing, dances, danced, twirling, spinning, swaying, jumping",
}

# Concept to phrases, separated by spaces.
CHINESE: dict[str, str] = {
    "beach": "海滩 沙滩 海边 海岸 海滨 岸边 沙子 棕榈树 椰子树 椰树 椰林 海湾 热带海岛",
    "sea": "大海 海洋 海面 海上 海浪 波浪 大洋 汪洋 海水 海景 海 湖面 湖",
    "mountains": "山脉 高山 群山 大山 雪山 山峰 山顶 山谷 山里 山上 山间 山区 阿尔卑斯 草地 草原 富士山 山",
    "forest": "森林 树林 丛林 林间 林子 树木 公园 松林 雨林 花园 林中 竹林",
    "city": (
        "城市 都市 街道 马路 大街 街头 街上 高楼 大楼 摩天大楼 城里 市中心 天际线 楼房 公路 小镇 北京 上海 "
        "纽约 东京 香港 村庄 路上"
    ),
    "volcano": "火山喷发 火山爆发 火山 喷发 爆发 岩浆 熔岩 火山口",
    "underwater": "海底世界 海底 水下 水底 水里 水中 海里 海中 深海 珊瑚礁 珊瑚 水族馆 海草 海洋深处 大海深处 潜水",
    "space": "太空 宇宙 外太空 星系 银河 星球 行星 太空中 星空中 星际 土星 木星 火星 轨道",
    "day": "白天 白日 中午 正午 下午 晴天 阳光 日间 大白天 阳光明媚 晴朗 蓝天",
    "sunset": "日落 夕阳 黄昏 傍晚 落日 晚霞 日暮 夕阳西下 太阳下山 太阳落山 暮色",
    "night": "夜晚 晚上 夜里 深夜 夜间 黑夜 夜色 午夜 月光 月亮 月夜 半夜 今夜 星夜 夜空 夜景 星空 夜",
    "dawn": "黎明 日出 清晨 早晨 早上 拂晓 破晓 朝阳 晨光 朝霞 天亮 凌晨 旭日 太阳升起",
    "sailboat": "帆船 小船 船只 轮船 游艇 小帆船 船",
    "bird": "小鸟 鸟儿 海鸥 飞鸟 老鹰 鸽子 鹦鹉 麻雀 燕子 大雁 鸟",
    "fish": "小鱼 鱼儿 金鱼 热带鱼 小丑鱼 海豚 鲨鱼 鲸鱼 鱼",
    "rocket": "火箭 飞船 宇宙飞船 太空船 航天飞机 航天器",
    "car": "汽车 小汽车 轿车 车子 小车 出租车 跑车 卡车 车辆 车",
    "dog": "小狗 狗狗 金毛 金毛犬 拉布拉多 狗 犬 哈士奇 柯基 小奶狗 泰迪",
    "balloon": "热气球 气球 飞艇",
    "dancer": "女孩 姑娘 女子 小女孩 舞者 女人 少女 女生 美女 人 孩子 舞女 公主 舞蹈演员 连衣裙 裙子 裙 小姑娘 她",
    "red": "红色 红 大红 赤色 鲜红 朱红",
    "blue": "蓝色 蓝 天蓝 深蓝 湛蓝 蔚蓝 青色",
    "yellow": "黄色 金色 金黄 黄 橙色 橘色 金黄色",
    "green": "绿色 绿 翠绿 碧绿 墨绿",
    "purple": "紫色 紫 紫红 粉色 粉红 粉红色",
    "white": "白色 雪白 白 洁白 银色 纯白",
    "left": "向左 朝左 往左 左边 左侧 面向左 向左边 朝左边 左",
    "right": "向右 朝右 往右 右边 右侧 面向右 向右边 朝右边 右",
    "big": "巨大 很大 大大 大的 高大",
    "small": "小小 小的 可爱 一点点",
    "calm": "平静 安静 宁静 慢慢 轻轻 缓缓 温柔",
    "fast": "快速 飞快 飞速",
    "beautiful": "美丽 漂亮 好看 美好 壮观 梦幻 浪漫 温暖 绚丽 唯美",
    "water": "水",
    "sky": "天空 空中 天上",
    "stars": "星星 繁星",
    "clouds": "云朵 白云 云彩 云",
    "trees": "大树 树叶 树",
    "snow": "下雪 雪花 雪",
    "dance": "跳舞 起舞 舞蹈 舞动 旋转 翩翩起舞",
}

ENGLISH_FILLER = (
    "a, an, the, this, that, these, those, there, here, it, its, it's, is, are, was, were, be, being, been, am, "
    "i, i'm, me, my, we, our, us, you, your, he, his, they, their, show, shows, showing, see, sees, look, looks, "
    "looking, watch, watching, give, gives, take, takes, make, makes, want, wants, would, like, let, let's, "
    "lets, please, now, next, then, today, currently, again, also, just, how, what, what's, when, where, why, "
    "which, who, does, do, did, can, could, will, shall, should, may, of, in, on, at, to, from, by, for, with, "
    "over, under, above, near, beside, below, about, tell, behind, before, after, into, onto, through, across, "
    "around, along, up, down, out, off, between, and, or, but, so, as, than, very, really, some, any, one, two, "
    "many, more, lot, lots, all, each, other, another, no, not, picture, image, clip, video, movie, film, scene, "
    "scenery, view, landscape, animation, animated, footage, shot, background, cartoon, drawing, painting, sail, "
    "sails, sailed, sailing, fly, flies, flying, flew, swim, swims, swimming, swam, drive, drives, driving, "
    "drove, float, floats, floating, floated, drift, drifts, drifting, run, runs, running, ran, trot, trots, "
    "trotting, walk, walks, walking, walked, stand, stands, standing, sit, sits, sitting, go, goes, going, gone, "
    "come, comes, coming, move, moves, moving, hover, hovers, hovering, bob, bobs, bobbing, flapping, wagging, "
    "wag, tail, wing, wings, wiggling, playing, play, plays, happening, happens, happen, work, works, wearing, "
    "wears, wear, dressed, has, have, having, had, got, gets, get, full, filled, seen, there's, everyone, "
    "everybody, audience, viewers, friends, folks, thing, things, while, during, time, colour, color, colored, "
    "coloured, kind, sort, something, start, stop, hello, hi, hey, ok, okay, thanks, thank, imagine, create, "
    "generate, draw, render, display, present, presenting, introduce, wish, love, loves, front, back, top, "
    "middle, side, place, placed, world, life, live, set, facing, heading, turned, toward, towards, pointing, "
    "travelling, traveling, passing, rolling, resting, waiting, alone, together, flight, show me, "
    "let me show you, let us see, a lot of, a picture of, i would like to see, take a look at, in front of"
)
CHINESE_FILLER = (
    "现在给大家看看 给大家看看 现在给大家看 给大家看 让大家看看 我想看看 我想看 给我看看 给我看 让我看看 "
    "让我们看看 我们来看看 我们来看 请给我 给我 给你看 来看看 看看 看一看 看到 看 请 现在 接下来 下面 的 了 着 "
    "在 是 有 一个 一只 一条 一艘 一辆 一枚 一位 一名 一片 一座 一幅 一段 一些 一 个 只 条 艘 辆 枚 位 名 片 座 "
    "幅 段 张 架 和 与 跟 及 上面 上 下 里面 里 中 中间 旁边 边 前 后 前面 后面 内 外 怎么 怎样 如何 什么 为什么 "
    "吗 呢 吧 啊 呀 哦 怎么样 样子 场景 画面 风景 景色 景象 视频 动画 图片 片段 背景 时候 时 时分 时刻 时间 我 "
    "你 他 它 我们 你们 大家 这 那 这个 那个 这里 那里 飞翔 飞行 飞过 飞 游泳 游动 游 行驶 驶过 开着 开过 开 "
    "航行 漂浮 飘浮 飘着 漂着 飘 漂 奔跑 跑步 跑 走路 走 站 坐 玩耍 玩 穿着 穿 穿过 身穿 发生 正在 正 地 得 会 "
    "能 可以 想 要 想要 来 去 到 从 向 往 朝 对 把 被 让 给 展示 显示 生成 画 演示 出现 很 非常 十分 真 好 都 也 "
    "就 还 又 再 不 没有 没 颜色 色 面向 朝向 方向 面朝 谢谢 你好 今天 变成 切换 换成 换 带 带着 头 匹 飞舞 升空 "
    "缓缓升起 停 停着 停在 摇摆 摇尾巴 尾巴"
)
