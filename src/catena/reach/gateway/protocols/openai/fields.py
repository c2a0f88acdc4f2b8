"""Which parameter of each OpenAI route is honoured, ignored with a warning, or refused; docs/reference shows it."""

from __future__ import annotations

from collections.abc import Mapping

from catena.reach.gateway.wire import Field, honoured, ignored, refused

SAMPLING: dict[str, Field] = {
    "temperature": honoured("0 to 2; 0 is greedy"),
    "top_p": honoured("above 0, to 1"),
    "top_k": honoured("extension: whole number, 0 means all"),
    "min_p": honoured("extension: 0 to 1"),
    "presence_penalty": honoured("-2 to 2"),
    "frequency_penalty": honoured("-2 to 2"),
    "repeat_penalty": honoured("extension: above 0, to 2"),
    "repetition_penalty": honoured("extension: another name of repeat_penalty"),
    "seed": honoured("whole number of 64 bits"),
    "stop": honoured("a string, or up to 4"),
    "n": honoured("1 to 8"),
    "logit_bias": honoured("token ids as strings, -100 to 100; at most 1024"),
    "ignore_eos": honoured("extension: go on after the end of the answer; for benchmarks"),
    "adapters": honoured("extension: names of stored LoRA adapters, each with its scale"),
    "grammar": honoured("extension: a GBNF grammar that the answer must follow"),
    "stream": honoured("server-sent events"),
    "stream_options": honoured("include_usage; include_obfuscation only as false"),
    "user": ignored("the caller is known by its API key", ""),
    "metadata": ignored("nothing of a request is stored but its receipt", {}),
}

CHAT: Mapping[str, Field] = {
    "model": honoured("name, alias or manifest digest"),
    "messages": honoured("roles system, developer, user, assistant, tool; a user may send images and sounds by value"),
    **SAMPLING,
    "max_tokens": honoured("the older name of max_completion_tokens"),
    "max_completion_tokens": honoured("1 or more"),
    "logprobs": honoured("true or false"),
    "top_logprobs": honoured("0 to 20; needs logprobs"),
    "tools": honoured("functions, at most 128"),
    "tool_choice": honoured("none, auto, required, or one function by name"),
    "parallel_tool_calls": honoured("true or false"),
    "response_format": honoured("text, json_object, json_schema"),
    "reasoning_effort": honoured("none turns reasoning off, any other turns it on, where the model can"),
    "chat_template_kwargs": honoured("extension: enable_thinking only"),
    "store": ignored("answers are never stored, only their receipts", False),
    "service_tier": ignored("there is one tier", "auto", "default"),
    "safety_identifier": ignored("the caller is known by its API key", ""),
    "prompt_cache_key": ignored("prompts with a common beginning share it by themselves", ""),
    "prompt_cache_options": ignored("prompts with a common beginning share it by themselves", {}),
    "prompt_cache_retention": ignored("the cache lives in memory only", "in_memory", "in-memory"),
    "prediction": ignored("an optimisation that this engine does not have"),
    "verbosity": ignored("say it in the prompt", "medium"),
    "modalities": refused("models here answer in text", ["text"]),
    "audio": refused("models here answer in text"),
    "functions": refused("use tools", []),
    "function_call": refused("use tool_choice", "none", "auto"),
    "web_search_options": refused("nothing leaves this machine"),
    "moderation": refused("no moderation model runs here, and a wish for safety is not ignored"),
}

COMPLETION: Mapping[str, Field] = {
    "model": honoured("name, alias or manifest digest"),
    "prompt": honoured("one text, or one list of token ids"),
    **SAMPLING,
    "max_tokens": honoured("1 or more; 16 if not given, as in the original"),
    "logprobs": honoured("0 to 20 alternatives per token; not with echo"),
    "echo": honoured("repeats the prompt before the answer"),
    "suffix": honoured("text after the gap, for models that can fill one in"),
    "best_of": refused("choose among n yourself", 1),
}

EMBEDDING: Mapping[str, Field] = {
    "model": honoured("name, alias or manifest digest"),
    "input": honoured("a text, up to 2048 texts, or the same as token ids"),
    "encoding_format": honoured("float, or base64 of little-endian float32"),
    "dimensions": honoured("shorter vectors where the model was trained for them, else refused"),
    "user": ignored("the caller is known by its API key", ""),
}

RERANK: Mapping[str, Field] = {
    "model": honoured("name, alias or manifest digest"),
    "query": honoured("a text"),
    "documents": honoured("1 to 1000 texts, or objects with a text"),
    "top_n": honoured("how many results, best first; all if not given"),
    "return_documents": honoured("true if not given, but false at /v2/rerank"),
    "truncation": honoured("false: a document that is too long is an error; else it is cut, with a warning"),
    "max_tokens_per_doc": honoured("tokens of a query and document that are read; what is longer is cut"),
    "rank_fields": refused("documents have one field, their text", ["text"]),
    "max_chunks_per_doc": refused("documents are read once, from their beginning", 1),
    "priority": ignored("there is one tier", 0),
    "user": ignored("the caller is known by its API key", ""),
}

CLASSIFY: Mapping[str, Field] = {
    "model": honoured("name, alias or manifest digest"),
    "input": honoured("a text, or up to 2048 texts; one that is too long is an error"),
    "truncate_prompt_tokens": refused("a text is classified whole or not at all", -1),
    "priority": ignored("there is one tier", 0),
    "user": ignored("the caller is known by its API key", ""),
}

TRANSCRIPTION: dict[str, Field] = {
    "file": honoured("WAV, FLAC, MP3 or Ogg Vorbis, up to 25 MiB and 4 hours"),
    "model": honoured("name, alias or manifest digest"),
    "language": honoured("that of the speech; one that the model does not write is refused"),
    "languages": honoured("the first of them is taken for the language"),
    "response_format": honoured("json, text, srt, verbose_json, vtt"),
    "timestamp_granularities": honoured("segment, with verbose_json; word is refused: it is not known"),
    "stream": honoured("server-sent events, with the text as it is written; json and text only"),
    "temperature": ignored("the likeliest text is written", "0", "0.0"),
    "prompt": ignored("the models here take none", ""),
    "keywords": ignored("the models here take none", []),
    "chunking_strategy": ignored("speech is always cut where it pauses", "auto"),
    "user": ignored("the caller is known by its API key", ""),
    "include": refused("probabilities are given per segment, in verbose_json", []),
    "known_speaker_names": refused("speakers are not told apart", []),
    "known_speaker_references": refused("speakers are not told apart", []),
}

TRANSLATION: dict[str, Field] = {
    name: TRANSCRIPTION[name] for name in ("file", "model", "prompt", "response_format", "temperature")
}

UPLOAD: Mapping[str, Field] = {
    "file": honoured("the file, with a filename; sent as a part of a form"),
    "purpose": honoured("assistants, batch, evals, fine-tune, user_data or vision; only batch has an effect"),
    "expires_after[anchor]": honoured("created_at"),
    "expires_after[seconds]": honoured("3600 to 2592000; without it, files with purpose batch stay for 30 days"),
}

BATCH: Mapping[str, Field] = {
    "input_file_id": honoured("a file with purpose batch: one JSON object per line"),
    "endpoint": honoured("/v1/chat/completions, /v1/completions, /v1/embeddings or /v1/responses"),
    "completion_window": honoured("24h; extension: any whole number of s, m, h or d up to 30d"),
    "metadata": honoured("up to 16 pairs, kept with the batch"),
    "output_expires_after": honoured("anchor created_at, and 3600 to 2592000 seconds"),
}

_TOKENISING = "the model of `default` if left out"

TOKENISE: Mapping[str, Field] = {
    "model": honoured(_TOKENISING),
    "prompt": honoured("a text"),
    "messages": honoured("instead of prompt: a conversation, as for chat completions, with its tools"),
    "tools": honoured("as for chat completions"),
    "chat_template_kwargs": honoured("enable_thinking only"),
    "add_special_tokens": honoured("of a prompt: with the tokens around a text; true if left out"),
    "return_token_strs": honoured("true or false"),
    "add_generation_prompt": refused("a conversation is read up to the beginning of its next answer", True),
    "continue_final_message": refused("a conversation is read up to the beginning of its next answer", False),
    "chat_template": refused("templates come with models", ""),
    "mm_processor_kwargs": refused("texts only", {}),
}

TOKENISE_LLAMA: Mapping[str, Field] = {
    "content": honoured("a text; makes this a question in the shape of llama.cpp's server"),
    "model": honoured(_TOKENISING),
    "add_special": honoured("with the tokens around a text; false if left out"),
    "parse_special": honoured("the name of a special token is that token; true if left out"),
    "with_pieces": honoured("with the text or the bytes of each token"),
}

DETOKENISE: Mapping[str, Field] = {
    "tokens": honoured("token ids"),
    "model": honoured(_TOKENISING),
}

TABLES: Mapping[str, Mapping[str, Field]] = {
    "POST /v1/chat/completions": CHAT,
    "POST /v1/completions": COMPLETION,
    "POST /v1/embeddings": EMBEDDING,
    "POST /v1/files": UPLOAD,
    "POST /v1/batches": BATCH,
    "POST /tokenize": TOKENISE,
    "POST /tokenize as llama.cpp's server has it": TOKENISE_LLAMA,
    "POST /detokenize": DETOKENISE,
    "POST /v1/rerank": RERANK,
    "POST /v1/classify": CLASSIFY,
    "POST /v1/audio/transcriptions": TRANSCRIPTION,
}
