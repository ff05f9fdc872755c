"""The words of the lexicon: English phrases and Chinese words for each concept, and fillers without meaning.

Add synonyms freely: the concepts are the model's, the words are not. A longer phrase wins over a shorter one.
"""

from __future__ import annotations

# Concept to phrases, separated by commas.
ENGLISH: dict[str, str] = {
    "beach": (
        "beach, seaside, seashore, shore, shoreline, coast, coastline, sandy beach, sand, palm beach, "
        "palm tree, palm, tropical island, tropical beach, by the sea, at the seaside, on the sand, "
        "waterfront, summer holiday, lagoon, bay, sandcastle, parasol, beach umbrella, by the ocean"
    ),
    "sea": (
        "sea, ocean, open sea, high sea, open ocean, waves, wave, seascape, open water, pacific, atlantic, "
        "marine, on the water, out at sea, ocean view, lake"
    ),
    "mountains": (
        "mountain, mountain range, peak, alps, alpine, mountaintop, summit, valley, highland, "
        "himalaya, snowy mountain, snow capped mountain, snow-capped mountain, snowy peak, everest, "
        "rocky mountain, mount fuji, cliff, mountain valley, mountain landscape, snow mountain, glacier, "
        "snow-covered mountain, snow-covered peak, snow-capped peak"
    ),
    "forest": (
        "forest, wood, woodland, jungle, grove, rainforest, rain forest, pine forest, pine, clearing, "
        "pine tree, deep forest, woods, bamboo forest"
    ),
    "city": (
        "city, town, downtown, street, road, skyline, cityscape, skyscraper, building, urban, metropolis, "
        "avenue, new york, tokyo, shanghai, beijing, london, paris, hong kong, city street, city skyline, "
        "highway, traffic, city centre, city center, busy street, boulevard, high-rise"
    ),
    "volcano": (
        "volcano, erupting volcano, volcanic eruption, volcano eruption, eruption, erupt, erupting, erupted, "
        "lava, magma, volcanic, crater, lava fountain, molten rock, exploding mountain, volcano erupting, "
        "volcano erupt, fire mountain, vesuvius, etna, krakatoa, lava flow, erupts"
    ),
    "underwater": (
        "underwater, under water, under the sea, undersea, under the ocean, below the sea, sea floor, "
        "seafloor, seabed, ocean floor, bottom of the sea, bottom of the ocean, deep sea, coral reef, coral, "
        "reef, aquarium, seaweed, beneath the waves, beneath the sea, fish tank, diving, scuba, "
        "submarine world, deep ocean, under the waves, kelp, in the depths, depths of the sea, beneath the ocean"
    ),
    "space": (
        "space, outer space, deep space, cosmos, universe, galaxy, milky way, planet, saturn, jupiter, mars, "
        "orbit, nebula, interstellar, solar system, cosmic, in orbit, astronomy, among the stars, "
        "the stars above, alien planet, starfield, ringed planet, venus, asteroid, planet earth, "
        "moon surface, surface of the moon, lunar surface"
    ),
    "park": (
        "park, city park, public park, playground, lawn, green lawn, park bench, in the park, picnic, "
        "town park, park path, park lawn"
    ),
    "desert": (
        "desert, dune, sand dune, cactus, cacti, sahara, gobi, oasis, desert dune, sandy desert, wasteland, "
        "wild west, canyon, desert landscape, cactuses, sea of sand"
    ),
    "countryside": (
        "countryside, country side, windmill, meadow, field, farm, farmland, farmhouse, village, pasture, "
        "country road, rural, rolling hills, green hills, hill, hilltop, wheat field, corn field, barn, prairie, "
        "grassland, country lane, in the country, cottage, orchard, sunflower field, mill, house, "
        "field of flowers, flower field, grassy field"
    ),
    "garden": (
        "garden, flower garden, flower bed, flowerbed, rose garden, backyard, back yard, yard, flowers, flower, "
        "rose, tulip, garden path, greenhouse, botanical garden, flower meadow, gardening, hedge"
    ),
    "classroom": (
        "classroom, class room, school, schoolroom, blackboard, chalkboard, lesson, class, lecture, "
        "lecture hall, kindergarten, school desk, in class, at school, nursery school"
    ),
    "room": (
        "room, cosy room, cozy room, bedroom, living room, livingroom, sitting room, at home, home, indoors, "
        "inside the house, in the house, nursery, playroom, apartment, sofa, couch, bed, fireplace, lounge, "
        "interior, study room, inside a house, in a house"
    ),
    "cafe": (
        "cafe, café, coffee shop, coffeehouse, coffee house, coffee, coffee bar, tea house, teahouse, bistro, "
        "restaurant, espresso, cappuccino, tea room, coffeeshop, bakery"
    ),
    "studio": (
        "studio, tv studio, television studio, broadcast studio, live studio, news studio, newsroom, stage, "
        "photo studio, dance studio, on stage, spotlight, recording studio, livestream studio, live room, "
        "film studio, on the stage, theatre, theater, news desk"
    ),
    "aurora": (
        "aurora, aurora borealis, northern lights, northern light, polar lights, polar light, aurora australis, "
        "southern lights, arctic, arctic sky, polar night, the northern lights, lapland"
    ),
    "day": (
        "day, daytime, daylight, noon, midday, afternoon, sunny, sunshine, broad daylight, in the daytime, "
        "at noon, sunny day, bright day, clear day, blue sky, blue skies, by day, during the day, day time, "
        "sunlight, sunlit, summer day, the sky blue, the sky is blue"
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
        "sun rising, break of day, at dawn, morning light, crack of dawn, sun is rising"
    ),
    "clear": (
        "clear weather, clear sky, clear skies, fine weather, good weather, nice weather, cloudless, "
        "cloudless sky, fair weather, dry weather"
    ),
    "rain": (
        "rain, rainy, raining, rains, rainy weather, rainfall, drizzle, drizzling, shower, raindrop, downpour, "
        "pouring rain, heavy rain, light rain, storm, stormy, thunderstorm, rainstorm, wet weather, pouring"
    ),
    "snow": (
        "snow, snowy, snowing, snows, snowfall, snowflake, falling snow, snow falling, snow is falling, blizzard, "
        "snowstorm, winter, wintry, snowy weather, light snow, heavy snow, snow falls"
    ),
    "fog": (
        "fog, foggy, mist, misty, haze, hazy, foggy weather, in the mist, thick fog, morning mist, mists, "
        "shrouded in mist, shrouded in fog"
    ),
    "petals": (
        "petal, falling petals, flower petals, petals falling, petals fall, petals are falling, drifting petals, "
        "cherry blossom, blossom, sakura, cherry tree, falling blossoms, falling cherry blossoms, peach blossom, "
        "petals in the wind, cherry blossoms falling, blossoming, rose petals, floating petals, cherry petals"
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
        "dancer, girl, woman, lady, dancing girl, dancing woman, person, ballerina, princess, "
        "girl dancing, woman dancing, somebody, someone, people, human, she, her, dress, skirt, gown, "
        "young woman, little girl, young lady, actress, women, ballet"
    ),
    "cat": (
        "cat, kitten, kitty, tabby, pussycat, pussy cat, tomcat, house cat, tabby cat, persian cat, siamese, "
        "kitties, feline"
    ),
    "children": (
        "children, child, kid, boy, boys and girls, boy and girl, a boy and a girl, girl and boy, "
        "a girl and a boy, girls and boys, toddler, pupil, schoolchildren, schoolchild, young children, "
        "girls playing, girl playing, children playing, kids playing, pupils, little boy, brother and sister, "
        "little children, siblings, playing children, two girls, schoolkid, youngster"
    ),
    "ball": (
        "ball, beach ball, beachball, football, soccer ball, frisbee, basketball, volleyball, rubber ball, "
        "toy ball, bouncing ball, bouncy ball, soccer, play ball, rolling ball"
    ),
    "dinosaur": (
        "dinosaur, dino, t-rex, t rex, trex, tyrannosaurus, tyrannosaurus rex, brontosaurus, stegosaurus, "
        "brachiosaurus, diplodocus, triceratops, sauropod, long-necked dinosaur, baby dinosaur, dinos"
    ),
    "red": "red, scarlet, crimson, ruby, cherry, vermilion, reddish, bright red, dark red, maroon",
    "blue": (
        "blue, navy, azure, cobalt, light blue, dark blue, sky blue, sky-blue, bluish, sapphire, turquoise, "
        "cyan, teal, indigo, navy blue, pale blue"
    ),
    "yellow": "yellow, golden, gold, lemon, amber, yellowish, mustard, blond, bright yellow, orange, ginger",
    "green": "green, emerald, lime, olive, dark green, light green, jade, mint, greenish, bright green, pale green",
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
    "still": (
        "static camera, fixed camera, still camera, camera stays still, camera is still, static shot, fixed shot, "
        "locked camera, locked-off camera, locked shot, still shot, camera still, steady camera, tripod shot, "
        "stationary camera, camera does not move, static view, camera stands still, tripod"
    ),
    "drift": (
        "slow pan, pan, panning, camera pan, camera drift, camera drifts, drifting camera, panning camera, "
        "panning shot, slow panning, camera moves, camera moves slowly, moving camera, camera movement, slow camera, "
        "slow camera drift, slow drift, camera drifts slowly, camera slowly drifts, tracking shot, camera glides, "
        "gliding camera, dolly, dolly shot, slow camera move, gentle pan, gentle camera drift, pans, "
        "camera pans, camera slowly pans, camera pans slowly, camera drifting, slow camera pan, camera slowly moves, "
        "slow camera movement, camera is moving, travelling shot, traveling shot, "
        "pan left, pan right, pan to the left, pan to the right, pans left, pans right, camera pans left, "
        "camera pans right, camera pans to the left, camera pans to the right"
    ),
    "vivid": (
        "vivid, vivid colours, vivid colors, bright colours, bright colors, saturated, saturated colours, "
        "saturated colors, vibrant, vibrant colours, vibrant colors, bold colours, bold colors, strong colours, "
        "strong colors, colourful, colorful, rich colours, rich colors"
    ),
    "pastel": (
        "pastel, pastel colours, pastel colors, pastel tones, soft colours, soft colors, soft tones, soft palette, "
        "watercolour, watercolor, water colour, water color, pale colours, pale colors, gentle colours, "
        "gentle colors, delicate colours, delicate colors, light colours, light colors, pastel palette, "
        "muted colours, muted colors"
    ),
    "vintage": (
        "vintage, retro, sepia, old film, old movie, old photo, old photograph, old-fashioned, nostalgic, "
        "film grain, faded colours, faded colors, old postcard, vintage film, retro colours, retro colors, "
        "vintage colours, vintage colors, sepia tones, antique, nineteen fifties, old picture"
    ),
}

# Concept to phrases, separated by spaces.
CHINESE: dict[str, str] = {
    "beach": "海滩 沙滩 海边 海岸 海滨 岸边 沙子 棕榈树 椰子树 椰树 椰林 海湾 热带海岛 沙堡 金沙滩 海岛",
    "sea": "大海 海洋 海面 海上 海浪 波浪 大洋 汪洋 海水 海景 海 湖面 湖 湖水 湖上",
    "mountains": (
        "山脉 高山 群山 大山 雪山 山峰 山顶 山谷 山里 山上 山间 山区 阿尔卑斯 富士山 山 雪峰 峡谷 喜马拉雅 珠穆朗玛峰 "
        "悬崖 冰川 山中"
    ),
    "forest": "森林 树林 丛林 林间 林子 树木 松林 雨林 热带雨林 林中 竹林 密林 松树林",
    "city": (
        "城市 都市 街道 马路 大街 街头 街上 高楼 大楼 摩天大楼 城里 市中心 天际线 楼房 公路 小镇 北京 上海 "
        "纽约 东京 香港 路上 闹市 高楼大厦 大厦 城中 街"
    ),
    "volcano": "火山喷发 火山爆发 火山 喷发 爆发 岩浆 熔岩 火山口 活火山",
    "underwater": (
        "海底世界 海底 水下 水底 水里 水中 海里 海中 深海 珊瑚礁 珊瑚 水族馆 海草 海洋深处 大海深处 潜水 "
        "鱼缸 海水里 海水下"
    ),
    "space": (
        "太空 宇宙 外太空 星系 银河 星球 行星 太空中 星空中 星际 土星 木星 火星 轨道 地球 太阳系 银河系 宇宙中 外星 "
        "金星 星云"
    ),
    "park": "公园 公园里 草坪 草地 游乐场 操场 绿地 城市公园 野餐 长椅 青草地 绿草地",
    "desert": "沙漠 沙丘 仙人掌 戈壁 撒哈拉 大漠 荒漠 绿洲 戈壁滩 沙漠里 撒哈拉沙漠 荒原",
    "countryside": (
        "乡村 田野 乡下 农村 风车 农场 草原 田园 麦田 村庄 村子 乡间 田间 稻田 郊外 牧场 农田 小村庄 农家 原野 "
        "大草原 小山坡 山坡 房子 小屋 农舍"
    ),
    "garden": "花园 庭院 后院 院子 花丛 花坛 玫瑰园 植物园 花圃 花朵 鲜花 玫瑰 园子 花海 小花园 花儿 郁金香",
    "classroom": "教室 学校 课堂 黑板 上课 幼儿园 校园 讲台 课桌 教室里 学堂 小学",
    "room": (
        "房间 卧室 客厅 屋里 室内 家里 书房 屋子 屋子里 家中 沙发 床上 房间里 温馨的房间 壁炉 在家 屋内 房里 儿童房 "
        "公寓"
    ),
    "cafe": "咖啡馆 咖啡厅 咖啡店 咖啡 咖啡屋 茶馆 餐厅 茶室 奶茶店 饭馆 餐馆 面包店 甜品店",
    "studio": "演播室 直播间 演播厅 摄影棚 舞台 录音棚 工作室 直播室 舞台上 聚光灯 新闻演播室 剧场 台上",
    "aurora": "极光 北极光 南极光 极夜 北极 极地 北极圈 极光下 南极",
    "day": "白天 白日 中午 正午 下午 晴天 阳光 日间 大白天 阳光明媚 晴朗 蓝天 午后 蓝天白云 阳光下",
    "sunset": "日落 夕阳 黄昏 傍晚 落日 晚霞 日暮 夕阳西下 太阳下山 太阳落山 暮色",
    "night": "夜晚 晚上 夜里 深夜 夜间 黑夜 夜色 午夜 月光 月亮 月夜 半夜 今夜 星夜 夜空 夜景 星空 夜 月下 今晚",
    "dawn": "黎明 日出 清晨 早晨 早上 拂晓 破晓 朝阳 晨光 朝霞 天亮 凌晨 旭日 太阳升起",
    "clear": "好天气 天气晴好 天气很好 晴空 晴空万里 万里无云 天气晴朗 天气好 天朗气清 天气真好",
    "rain": (
        "下雨 雨天 雨 大雨 小雨 细雨 下雨天 雨中 暴雨 下着雨 雨水 雨滴 毛毛雨 暴风雨 雷雨 阴雨里 下大雨 下小雨 "
        "阵雨 春雨 倾盆大雨"
    ),
    "snow": (
        "下雪 雪花 雪 雪天 大雪 小雪 下雪天 雪中 下着雪 飘雪 雪花飘落 暴风雪 冬天 雪地 雪景 白雪 飞雪 漫天飞雪 冬季 "
        "下大雪 雪花飞舞 冬日"
    ),
    "fog": "雾 大雾 薄雾 雾天 雾气 雾中 晨雾 浓雾 起雾 雾蒙蒙 烟雾 云雾 迷雾 有雾 雾里 雾霭",
    "petals": (
        "花瓣 花瓣飘落 花瓣飞舞 樱花 樱花飘落 樱花飞舞 落花 花瓣雨 樱花树 樱花雨 飘落的花瓣 飞舞的花瓣 樱花盛开 桃花 "
        "樱花瓣 落英缤纷 樱花树下"
    ),
    "sailboat": "帆船 小船 船只 轮船 游艇 小帆船 船 船儿",
    "bird": "小鸟 鸟儿 海鸥 飞鸟 老鹰 鸽子 鹦鹉 麻雀 燕子 大雁 鸟 天鹅",
    "fish": "小鱼 鱼儿 金鱼 热带鱼 小丑鱼 海豚 鲨鱼 鲸鱼 鱼",
    "rocket": "火箭 飞船 宇宙飞船 太空船 航天飞机 航天器",
    "car": "汽车 小汽车 轿车 车子 小车 出租车 跑车 卡车 车辆 车",
    "dog": "小狗 狗狗 金毛 金毛犬 拉布拉多 狗 犬 哈士奇 柯基 小奶狗 泰迪 狗儿",
    "balloon": "热气球 气球 飞艇",
    "dancer": (
        "女孩 姑娘 女子 小女孩 舞者 女人 少女 女生 美女 人 舞女 公主 舞蹈演员 连衣裙 裙子 裙 小姑娘 她 女孩子 "
        "女士 芭蕾 有人"
    ),
    "cat": "猫 小猫 猫咪 小猫咪 猫儿 花猫 橘猫 小花猫 喵星人 喵 波斯猫 奶猫 小奶猫 猫猫",
    "children": (
        "孩子 孩子们 小朋友 小朋友们 儿童 小孩 小孩子 男孩 男孩子 小男孩 孩童 男孩和女孩 男孩女孩 女孩和男孩 学生 "
        "小学生 学生们 同学们 同学 娃娃 小伙伴 男生 男孩儿 男孩们 女孩们 小伙伴们 兄妹 姐弟 男生女生 宝宝"
    ),
    "ball": "皮球 球 足球 篮球 排球 飞盘 沙滩球 大皮球 小皮球 小球 彩球 大球 玩具球 花皮球 弹力球",
    "dinosaur": "恐龙 小恐龙 霸王龙 暴龙 雷龙 剑龙 三角龙 腕龙 梁龙 大恐龙 恐龙宝宝 长颈龙",
    "red": "红色 红 大红 赤色 鲜红 朱红",
    "blue": "蓝色 蓝 天蓝 深蓝 湛蓝 蔚蓝 青色 浅蓝 天蓝色 浅蓝色 深蓝色",
    "yellow": "黄色 金色 金黄 黄 橙色 橘色 金黄色 橘黄色 橙",
    "green": "绿色 绿 翠绿 碧绿 墨绿 翠绿色 草绿色 浅绿色",
    "purple": "紫色 紫 紫红 粉色 粉红 粉红色 紫红色",
    "white": "白色 雪白 白 洁白 银色 纯白 雪白色 米白色 乳白色",
    "left": "向左 朝左 往左 左边 左侧 面向左 向左边 朝左边 左",
    "right": "向右 朝右 往右 右边 右侧 面向右 向右边 朝右边 右",
    "still": "固定镜头 镜头固定 静止镜头 镜头不动 镜头静止 固定机位 机位固定 定镜头 静态镜头 镜头保持不动",
    "drift": (
        "镜头缓缓移动 缓慢平移 镜头移动 镜头平移 镜头缓缓平移 平移镜头 移动镜头 运镜 缓缓平移 镜头慢慢移动 "
        "镜头缓慢移动 "
        "镜头缓慢平移 摇镜头 镜头漂移 镜头推移 推镜头 慢慢平移 缓慢移动的镜头 平移 慢摇 镜头滑动 镜头慢慢平移 镜头横移 "
        "镜头向左移动 镜头向右移动 镜头向左平移 镜头向右平移"
    ),
    "vivid": "鲜艳 鲜艳色彩 色彩鲜艳 颜色鲜艳 鲜明 明艳 艳丽 色彩明亮 浓烈色彩 色彩浓郁 亮丽 五颜六色 五彩缤纷 鲜亮",
    "pastel": (
        "水彩 柔和色调 柔和 色调柔和 柔和的色调 柔和的颜色 淡彩 马卡龙 马卡龙色 粉彩 淡雅 水彩画 水彩风格 浅色调 "
        "水彩画风 "
        "粉彩色调 清淡色彩 颜色柔和 色彩柔和 柔美"
    ),
    "vintage": (
        "复古 复古风格 怀旧 老电影 老照片 旧照片 胶片 泛黄 复古色调 怀旧风格 旧时光 怀旧色调 年代感 胶片风格 老式 "
        "胶片感 "
        "旧电影 复古风 古旧 做旧"
    ),
}

# Words without meaning, and things that a scene shows by itself or only at times: water, clouds, trees, prettiness.
# A red roof or a white cloud is not the subject's colour.
_ENGLISH_SCENERY = (
    "water, sky, skies, air, star, stars, cloud, cloudy, tree, leaf, leaves, white cloud, green tree, blue water, "
    "blue sea water, white sand, golden sand, golden light, golden sunlight, white wave, red roof, grass, green "
    "grass, sun, wind, windy, "
    "light, calm, quiet, peaceful, serene, gentle, gently, slowly, slow, soft, softly, still, tranquil, relaxing, "
    "beautiful, pretty, lovely, gorgeous, nice, wonderful, amazing, magical, stunning, bright, dreamy, warm, cool, "
    "romantic, happy, happily, epic, cheerful, cute, little, cosy, cozy, friendly, lively, dance, dancing, dances, "
    "danced, twirling, spinning, swaying, jumping, jump, jumps, outside, window, outside the window"
)
_CHINESE_SCENERY = (
    "水 天空 空中 天上 星星 繁星 云朵 白云 云彩 云 大树 树叶 树 绿树 青草 绿草 碧水 太阳 风 微风 金色阳光 平静 安静 "
    "宁静 慢慢 轻轻 "
    "缓缓 温柔 美丽 漂亮 好看 美好 壮观 梦幻 浪漫 温暖 绚丽 唯美 可爱 快乐 开心 开心地 欢快 友好 温馨 跳舞 起舞 "
    "舞蹈 舞动 "
    "旋转 翩翩起舞 跳跃 跳 蹦跳 蹦蹦跳跳 窗外 外面 缓慢"
)
ENGLISH_FILLER = _ENGLISH_SCENERY + (
    ", a, an, the, this, that, these, those, there, here, it, its, it's, is, are, was, were, be, being, been, am, "
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
    "let me show you, let us see, a lot of, a picture of, i would like to see, take a look at, in front of, "
    "inside, within, lives, living, form, forms, formed, grow, grows, growing, look like, called, "
    "throwing, throw, throws, tossing, toss, catching, catch, bouncing, bounce, bounces, bounced, roll, rolls, "
    "rolled, strolling, stroll, stepping, stomping, roaming, falling, fall, falls, holding, hold, hands, hand, "
    "hand in hand, camera, style, look, mood, tone, tones, palette, colours, colors, weather, made, ground, "
    "swaying its tail, each other, one another, if, because, us all, three, both, ever, away, past, it all, "
    "explain, describe, talk, learn, know, find, feel, welcome, enjoy, story, once upon a time, spend, begin, begins"
)
CHINESE_FILLER = _CHINESE_SCENERY + (
    " 现在给大家看看 给大家看看 现在给大家看 给大家看 让大家看看 我想看看 我想看 给我看看 给我看 让我看看 "
    "让我们看看 我们来看看 我们来看 请给我 给我 给你看 来看看 看看 看一看 看到 看 请 现在 接下来 下面 的 了 着 "
    "在 是 有 一个 一只 一条 一艘 一辆 一枚 一位 一名 一片 一座 一幅 一段 一些 一 个 只 条 艘 辆 枚 位 名 片 座 "
    "幅 段 张 架 和 与 跟 及 上面 上 下 里面 里 中 中间 旁边 旁 边 前 后 前面 后面 内 外 怎么 怎样 如何 什么 为什么 "
    "吗 呢 吧 啊 呀 哦 怎么样 样子 场景 画面 风景 景色 景象 视频 动画 图片 片段 背景 时候 时 时分 时刻 时间 我 "
    "你 他 它 我们 你们 大家 这 那 这个 那个 这里 那里 飞翔 飞行 飞过 飞 游泳 游动 游 行驶 驶过 开着 开过 开 "
    "航行 漂浮 飘浮 飘着 漂着 飘 漂 奔跑 跑步 跑 走路 走 站 坐 玩耍 玩 穿着 穿 穿过 身穿 发生 正在 正 地 得 会 "
    "能 可以 想 要 想要 来 去 到 从 向 往 朝 对 把 被 让 给 展示 显示 生成 画 演示 出现 很 非常 十分 真 好 都 也 "
    "就 还 又 再 不 没有 没 颜色 色 面向 朝向 方向 面朝 谢谢 你好 今天 变成 切换 换成 换 带 带着 头 匹 飞舞 升空 "
    "缓缓升起 停 停着 停在 摇摆 摇尾巴 尾巴 们 两个 一对 一群 几个 两 几 群 颗 间 家 所 部 散步 踱步 蹲 蹲着 坐着 "
    "站着 趴 "
    "趴着 扔球 抛球 玩球 传球 踢球 打球 弹跳 滚动 滚 弹 扔 抛 手拉手 拉着手 长 住 住着 生活 形成 为何 哪里 哪儿 谁 "
    "色调 "
    "风格 色彩 镜头 画风 气氛 天气 飘落 落下 落 天 起 里有 是什么 什么样 里面有 呼吸 吃 睡觉 叫 身上 小 那么 这么 这样 "
    "介绍 介绍一下 讲讲 说说 知道 告诉 告诉我 欢迎 认识 学习 一起 之中 之下 当 当中 用"
)
