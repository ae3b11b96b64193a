// A model in llama.cpp: prompts in, tokens out. Several sequences are computed in one batch.

import {Template} from "@huggingface/jinja";
import {getLlama, LlamaGrammarEvaluationState} from "node-llama-cpp";

const LONGEST_CHARACTER_TOKENS = 4; // a character of UTF-8 has as many bytes at most

export class Refused extends Error {
    constructor(status, message, param = null) {
        super(message);
        Object.assign(this, {status, param});
    }
}

export class Engine {
    static async load({file, sequences, contextTokens, threads}) {
        const llama = await getLlama({
            gpu: false, build: "never", maxThreads: threads, logLevel: "error", progressLogs: false
        });
        const model = await llama.loadModel({modelPath: file});
        // In single precision, as transformers computes it: with half of it, which flash attention
        // has whatever the cache holds, log probabilities differ by 1e-3 and some answers with them.
        const context = await model.createContext({
            sequences, contextSize: contextTokens, threads, batchSize: 512, flashAttention: false,
            experimentalKvCacheKeyType: "F32", experimentalKvCacheValueType: "F32"
        });
        return new Engine(llama, model, context, contextTokens, sequences);
    }

    constructor(llama, model, context, contextTokens, sequences) {
        Object.assign(this, {llama, model, contextTokens});
        this.idle = Array.from({length: sequences}, () => context.getSequence());
        this.counts = {running: 0, finished: 0, cancelled: 0};
        this.template = new Template(model.fileInfo.metadata.tokenizer.chat_template);
    }

    get name() {
        return this.model.fileInfo.metadata.general.name;
    }

    promptOf(messages) {
        return this.template.render({messages, add_generation_prompt: true});
    }

    tokensOf(prompt) {
        const tokens = Array.isArray(prompt) ? prompt : this.model.tokenize(prompt, true);
        if (tokens.length === 0 || tokens.length >= this.contextTokens)
            throw new Refused(400, `a prompt of ${tokens.length} tokens; send 1 to ${this.contextTokens - 1}`);
        return tokens;
    }

    async embed(text) {
        this.embedding ??= await this.model.createEmbeddingContext({threads: 1});
        return [...(await this.embedding.getEmbeddingFor(text)).vector];
    }

    // Yields {text, token, logprob, top} for every token; the reason why it ended is returned.
    async *generate(tokens, {limit, temperature, seed, topP, top, schema, signal}) {
        const sequence = this.idle.pop();
        if (!sequence)
            throw new Refused(503, "all sequences are in use; ask again later");
        this.counts.running++;
        try {
            const grammar = schema && await this.llama.createGrammarForJsonSchema(schema);
            const options = {
                temperature, seed, topP,
                grammarEvaluationState:
                    grammar && new LlamaGrammarEvaluationState({model: this.model, grammar})
            };
            return yield* this.#tokens(sequence, tokens, options, {limit, top, schema, signal});
        } finally {
            this.counts.running--;
            this.counts[signal.aborted ? "cancelled" : "finished"]++;
            await sequence.clearHistory();
            this.idle.push(sequence);
        }
    }

    async *#tokens(sequence, prompt, options, {limit, top, schema, signal}) {
        const most = Math.min(limit, this.contextTokens - prompt.length);
        const metadata = {confidence: true, probabilities: top !== null};
        let open = [], made = 0, whole = "";
        for await (const {token, confidence, probabilities} of
            sequence.evaluateWithMetadata(prompt, metadata, options)) {
            if (signal.aborted)
                return "cancelled";
            if (this.model.isEogToken(token))
                return "stop";
            open.push(token);
            made++;
            let text = this.model.detokenize(open);
            if (text.endsWith("\ufffd") && open.length < LONGEST_CHARACTER_TOKENS && made < most)
                text = ""; // the rest of a character is in the next token
            else
                open = [];
            whole += text;
            yield {text, ...this.#said(token, confidence, probabilities, top)};
            if (schema && isJson(whole))
                return "stop";
            if (made >= most)
                return "length";
        }
        return "stop";
    }

    #said(token, confidence, probabilities, top) {
        const word = (id, p) => {
            const text = this.model.detokenize([id], true);
            return {token: text, logprob: Math.log(p), bytes: [...Buffer.from(text)]};
        };
        if (top === null)
            return {};
        const likeliest = [...probabilities].slice(0, top).map(([id, p]) => word(id, p));
        return {logprob: {...word(token, confidence), top_logprobs: likeliest}};
    }
}

function isJson(text) {
    try {
        JSON.parse(text);
        return true;
    } catch {
        return false;
    }
}
