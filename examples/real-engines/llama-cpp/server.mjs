// llama.cpp behind the part of OpenAI's interface that its random model can serve.
//
//     node server.mjs MODEL.gguf [PORT] [THREADS]

import {randomUUID} from "node:crypto";
import {createServer} from "node:http";
import {Engine, Refused} from "./engine.mjs";

const SEQUENCES = 4, CONTEXT_TOKENS = 4096, DEFAULT_TOKENS = 256, LONGEST_BODY = 2 ** 24;
const UNKNOWN = ["stop", "response_format", "functions", "logit_bias"];

const [file, port = "0", threads = "1"] = process.argv.slice(2);
const engine = await Engine.load({
    file, sequences: SEQUENCES, contextTokens: CONTEXT_TOKENS, threads: Number(threads)
});

const routes = {
    "GET /health": async (_, response) => send(response, 200, {status: "ok", ...engine.counts}),
    "GET /v1/models": async (_, response) =>
        send(response, 200, {object: "list", data: [{id: engine.name, object: "model"}]}),
    "POST /v1/chat/completions": (body, response) => answer(chat, body, response),
    "POST /v1/completions": (body, response) => answer(completion, body, response),
    "POST /v1/embeddings": embeddings
};

// ------------------------------------------------------------------ what the two kinds look like

const chat = {
    prefix: "chatcmpl", kind: "chat.completion", chunk: "chat.completion.chunk",
    prompt: (body) => engine.promptOf(body.messages ?? refuse("messages: missing", "messages")),
    top: (body) => (body.logprobs ? body.top_logprobs ?? 0 : null),
    first: {delta: {role: "assistant", content: ""}, logprobs: null, finish_reason: null},
    part: ({text, logprob}, tool) => ({
        delta: tool ? {tool_calls: [{index: 0, function: {arguments: text}}]} : {content: text},
        logprobs: logprob ? {content: [logprob]} : null,
        finish_reason: null
    }),
    last: (reason) => ({delta: {}, logprobs: null, finish_reason: reason}),
    whole: (text, said, reason, tool) => ({
        message: tool
            ? {role: "assistant", content: null, tool_calls: [{...tool, function: {...tool.function, arguments: text}}]}
            : {role: "assistant", content: text},
        logprobs: said.length ? {content: said} : null,
        finish_reason: reason
    })
};

const completion = {
    prefix: "cmpl", kind: "text_completion", chunk: "text_completion",
    prompt: (body) => body.prompt ?? refuse("prompt: missing", "prompt"),
    top: () => null,
    first: null,
    part: ({text}) => ({text, logprobs: null, finish_reason: null}),
    last: (reason) => ({text: "", logprobs: null, finish_reason: reason}),
    whole: (text, _, reason) => ({text, logprobs: null, finish_reason: reason})
};

// ------------------------------------------------------------------ answers

async function answer(shape, body, response) {
    check(body);
    const tokens = engine.tokensOf(shape.prompt(body));
    const tool = forcedTool(body), stop = new AbortController();
    response.on("close", () => response.writableFinished || stop.abort());
    const parts = engine.generate(tokens, {
        limit: body.max_completion_tokens ?? body.max_tokens ?? DEFAULT_TOKENS,
        temperature: body.temperature ?? 1, topP: body.top_p, seed: body.seed,
        top: shape.top(body), schema: tool?.schema, signal: stop.signal
    });
    const head = {
        id: `${shape.prefix}-${randomUUID()}`, created: Math.floor(Date.now() / 1000),
        model: engine.name, system_fingerprint: "llama.cpp"
    };
    const made = body.stream ? stream : whole;
    await made(shape, {head, body, parts, tool: tool?.call, prompt: tokens.length}, response);
}

async function whole(shape, {head, parts, tool, prompt}, response) {
    let text = "", count = 0;
    const said = [];
    const reason = await each(parts, (part) => {
        text += part.text;
        count++;
        if (part.logprob)
            said.push(part.logprob);
    });
    const choice = {index: 0, ...shape.whole(text, said, tool ? "tool_calls" : reason, tool)};
    send(response, 200, {...head, object: shape.kind, choices: [choice], usage: usage(prompt, count)});
}

async function stream(shape, {head, body, parts, tool, prompt}, response) {
    const event = (choices, rest = {}) =>
        `data: ${JSON.stringify({...head, object: shape.chunk, choices, ...rest})}\n\n`;
    const choice = (said) => event([{index: 0, ...said}]);
    let count = 0;
    const begin = () => {
        response.writeHead(200, {"content-type": "text/event-stream"});
        if (shape.first)
            response.write(choice(shape.first));
        if (tool)
            response.write(choice({delta: {tool_calls: [{index: 0, ...tool}]}, finish_reason: null}));
    };
    const reason = await each(parts, (part) => {
        if (count++ === 0)
            begin();
        if (part.text || part.logprob)
            response.write(choice(shape.part(part, tool)));
    });
    if (count === 0)
        begin();
    response.write(choice(shape.last(tool ? "tool_calls" : reason)));
    if (body.stream_options?.include_usage)
        response.write(event([], {usage: usage(prompt, count)}));
    response.end("data: [DONE]\n\n");
}

async function embeddings(body, response) {
    const inputs = [body.input ?? refuse("input: missing", "input")].flat();
    if (body.encoding_format === "base64")
        refuse("encoding_format: only float", "encoding_format");
    const data = [];
    for (const [index, text] of inputs.entries())
        data.push({object: "embedding", index, embedding: await engine.embed(text)});
    const prompt = inputs.reduce((sum, text) => sum + engine.tokensOf(text).length, 0);
    const told = {prompt_tokens: prompt, total_tokens: prompt};
    send(response, 200, {object: "list", model: engine.name, data, usage: told});
}

// ------------------------------------------------------------------ requests

function check(body) {
    const field = UNKNOWN.find((name) => body[name] !== undefined && body[name] !== null);
    if (field)
        refuse(`${field}: this engine cannot do it; leave it out`, field);
    if ((body.n ?? 1) !== 1)
        refuse("n: one answer only", "n");
    if (body.model !== engine.name)
        throw new Refused(404, `no model ${body.model}; there is ${engine.name}`, "model");
}

// A random model calls no function of its own accord, but a grammar can make it.
function forcedTool({tools, tool_choice: choice}) {
    const name = choice?.function?.name ?? (choice === "required" ? tools?.[0]?.function.name : null);
    if (!name)
        return null;
    const found = tools?.find((tool) => tool.function.name === name);
    if (!found)
        refuse(`tool_choice: no tool ${name}`, "tool_choice");
    const call = {id: `call_${randomUUID()}`, type: "function", function: {name, arguments: ""}};
    return {call, schema: found.function.parameters ?? {type: "object", properties: {}}};
}

function usage(prompt, made) {
    return {prompt_tokens: prompt, completion_tokens: made, total_tokens: prompt + made};
}

async function each(parts, use) {
    for (;;) {
        const {done, value} = await parts.next();
        if (done)
            return value;
        use(value);
    }
}

function refuse(message, param) {
    throw new Refused(400, message, param);
}

function send(response, status, document) {
    response.writeHead(status, {"content-type": "application/json"});
    response.end(JSON.stringify(document));
}

async function read(request) {
    const pieces = [];
    let size = 0;
    for await (const piece of request) {
        pieces.push(piece);
        if ((size += piece.length) > LONGEST_BODY)
            throw new Refused(413, `a body of more than ${LONGEST_BODY} bytes`);
    }
    try {
        return pieces.length ? JSON.parse(Buffer.concat(pieces)) : null;
    } catch (error) {
        return refuse(`the body is not JSON: ${error.message}`, null);
    }
}

async function serve(request, response) {
    const path = request.url.split("?")[0];
    const route = routes[`${request.method} ${path}`];
    try {
        const body = await read(request);
        if (!route)
            throw new Refused(404, `no ${request.method} ${path} here`);
        await route(body ?? {}, response);
    } catch (error) {
        if (response.headersSent)
            return response.destroy();
        const status = error instanceof Refused ? error.status : 500;
        const type = status < 500 ? "invalid_request_error" : "server_error";
        send(response, status, {
            error: {message: error.message, type, param: error.param ?? null, code: null}
        });
    }
}

const server = createServer((request, response) => void serve(request, response));
server.listen(Number(port), "127.0.0.1", () =>
    console.log(`listening on http://127.0.0.1:${server.address().port}`)
);
