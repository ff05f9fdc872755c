// What OpenAI's package for node does with `/v1/videos`, unchanged: node with_openai.mjs URL KEY PICTURE
// `test_clients.py` copies it beside the package and runs it. A wrong answer throws.

import assert from "node:assert/strict";
import { createReadStream, readFileSync } from "node:fs";
import OpenAI from "openai";

const [url, apiKey, picture] = process.argv.slice(2);
const client = new OpenAI({ baseURL: `${url}/v1`, apiKey });

/** @param {{ id: string, status: string }} video */
async function ended(video) {
  while (video.status === "queued" || video.status === "in_progress") {
    await new Promise((resolve) => setTimeout(resolve, 100));
    video = await client.videos.retrieve(video.id);
  }
  assert.equal(video.status, "completed", JSON.stringify(video));
  return video;
}

async function refused(call, kind, code, param) {
  await assert.rejects(call, (error) => {
    assert.ok(error instanceof kind, `${error}`);
    assert.deepEqual([error.code, error.param], [code, param]);
    return true;
  });
}

const video = await ended(await client.videos.create({ prompt: "scene 5", model: "sora-2", seconds: "4", size: "720x1280" }));
assert.deepEqual([video.seconds, video.size, video.progress, video.error], ["4", "720x1280", 100, null]);
for (const [variant, start, magic] of [["video", 4, "ftyp"], ["thumbnail", 8, "WEBP"], ["spritesheet", 6, "JFIF"]]) {
  const answer = await client.videos.downloadContent(video.id, { variant });
  const content = Buffer.from(await answer.arrayBuffer());
  assert.equal(content.subarray(start, start + 4).toString("latin1"), magic);
}
const begun = await ended(await client.videos.create({ prompt: "scene 6", input_reference: createReadStream(picture) }));
const address = `data:image/png;base64,${readFileSync(picture).toString("base64")}`;
// Nested values become `input_reference[image_url]` and `video[id]` in a form.
await ended(await client.videos.create({ prompt: "scene 7", input_reference: { image_url: address } }));
const longer = await ended(await client.videos.extend({ prompt: "scene 8", seconds: "4", video: { id: video.id } }));
assert.equal(longer.seconds, "8");
const remix = await ended(await client.videos.remix(video.id, { prompt: "scene 9" }));
assert.equal(remix.remixed_from_video_id, video.id);

const ids = [];
for await (const one of client.videos.list({ limit: 2, order: "asc" })) ids.push(one.id);
assert.equal(new Set(ids).size, 5);
assert.equal(ids[0], video.id);

await refused(() => client.videos.create({ prompt: " " }), OpenAI.BadRequestError, "prompt_empty", "prompt");
await refused(() => client.videos.create({ prompt: "a", seconds: "99" }), OpenAI.BadRequestError, "invalid_value", "seconds");
await refused(() => client.videos.retrieve("video_none"), OpenAI.NotFoundError, "unknown_video", null);
const stranger = new OpenAI({ baseURL: `${url}/v1`, apiKey: "wrong", maxRetries: 0 });
await refused(() => stranger.videos.list(), OpenAI.AuthenticationError, "unauthorized", null);
for (const id of [begun.id, video.id]) {
  assert.deepEqual(await client.videos.delete(id), { id, object: "video.deleted", deleted: true });
}
console.log("ok");
