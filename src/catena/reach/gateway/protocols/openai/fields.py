"""Which parameter of each OpenAI route is honoured, ignored with a warning, or refused; docs/reference shows it."""

from __future__ import annotations

from collections.abc import Mapping

from catena.reach.gateway.wire import Field


def _honoured(note: str) -> Field:
    return Field("honoured", note)


def _ignored(note: str, *harmless: object) -> Field:
    return Field("ignored", note, harmless)


def _refused(note: str, *harmless: object) -> Field:
    return Field("refused", note, harmless)


SAMPLING: dict[str, Field] = {
    "temperature": _honoured("0 to 2; 0 is greedy"),
    "top_p": _honoured("above 0, to 1"),
    "top_k": _honoured("extension: whole number, 0 means all"),
    "min_p": _honoured("extension: 0 to 1"),
    "presence_penalty": _honoured("-2 to 2"),
    "frequency_penalty": _honoured("-2 to 2"),
    "repeat_penalty": _honoured("extension: above 0, to 2"),
    "repetition_penalty": _honoured("extension: another name of repeat_penalty"),
    "seed": _honoured("whole number of 64 bits"),
    "stop": _honoured("a string, or up to 4"),
    "n": _honoured("1 to 8"),
    "logit_bias": _honoured("token ids as strings, -100 to 100; at most 1024"),
    "ignore_eos": _honoured("extension: go on after the end of the answer; for benchmarks"),
    "adapters": _honoured("extension: names of stored LoRA adapters, each with its scale"),
    "grammar": _honoured("extension: a GBNF grammar that the answer must follow"),
    "stream": _honoured("server-sent events"),
    "stream_options": _honoured("include_usage; include_obfuscation only as false"),
    "user": _ignored("the caller is known by its API key", ""),
    "metadata": _ignored("nothing of a request is stored but its receipt", {}),
}

CHAT: Mapping[str, Field] = {
    "model": _honoured("name, alias or manifest digest"),
    "messages": _honoured("roles system, developer, user, assistant, tool; a user may send images and sounds by value"),
    **SAMPLING,
    "max_tokens": _honoured("the older name of max_completion_tokens"),
    "max_completion_tokens": _honoured("1 or more"),
    "logprobs": _honoured("true or false"),
    "top_logprobs": _honoured("0 to 20; needs logprobs"),
    "tools": _honoured("functions, at most 128"),
    "tool_choice": _honoured("none, auto, required, or one function by name"),
    "parallel_tool_calls": _honoured("true or false"),
    "response_format": _honoured("text, json_object, json_schema"),
    "reasoning_effort": _honoured("none turns reasoning off, any other turns it on, where the model can"),
    "chat_template_kwargs": _honoured("extension: enable_thinking only"),
    "store": _ignored("answers are never stored, only their receipts", False),
    "service_tier": _ignored("there is one tier", "auto", "default"),
    "safety_identifier": _ignored("the caller is known by its API key", ""),
    "prompt_cache_key": _ignored("prompts with a common beginning share it by themselves", ""),
    "prompt_cache_options": _ignored("prompts with a common beginning share it by themselves", {}),
    "prompt_cache_retention": _ignored("the cache lives in memory only", "in_memory", "in-memory"),
    "prediction": _ignored("an optimisation that this engine does not have"),
    "verbosity": _ignored("say it in the prompt", "medium"),
    "modalities": _refused("models here answer in text", ["text"]),
    "audio": _refused("models here answer in text"),
    "functions": _refused("use tools", []),
    "function_call": _refused("use tool_choice", "none", "auto"),
    "web_search_options": _refused("nothing leaves this machine"),
    "moderation": _refused("no moderation model runs here, and a wish for safety is not ignored"),
}

COMPLETION: Mapping[str, Field] = {
    "model": _honoured("name, alias or manifest digest"),
    "prompt": _honoured("one text, or one list of token ids"),
    **SAMPLING,
    "max_tokens": _honoured("1 or more; 16 if not given, as in the original"),
    "logprobs": _honoured("0 to 20 alternatives per token; not with echo"),
    "echo": _honoured("repeats the prompt before the answer"),
    "suffix": _honoured("text after the gap, for models that can fill one in"),
    "best_of": _refused("choose among n yourself", 1),
}

EMBEDDING: Mapping[str, Field] = {
    "model": _honoured("name, alias or manifest digest"),
    "input": _honoured("a text, up to 2048 texts, or the same as token ids"),
    "encoding_format": _honoured("float, or base64 of little-endian float32"),
    "dimensions": _honoured("shorter vectors where the model was trained for them, else refused"),
    "user": _ignored("the caller is known by its API key", ""),
}

RERANK: Mapping[str, Field] = {
    "model": _honoured("name, alias or manifest digest"),
    "query": _honoured("a text"),
    "documents": _honoured("1 to 1000 texts, or objects with a text"),
    "top_n": _honoured("how many results, best first; all if not given"),
    "return_documents": _honoured("true if not given, but false at /v2/rerank"),
    "truncation": _honoured("false: a document that is too long is an error; else it is cut, with a warning"),
    "max_tokens_per_doc": _honoured("tokens of a query and document that are read; what is longer is cut"),
    "rank_fields": _refused("documents have one field, their text", ["text"]),
    "max_chunks_per_doc": _refused("documents are read once, from their beginning", 1),
    "priority": _ignored("there is one tier", 0),
    "user": _ignored("the caller is known by its API key", ""),
}

CLASSIFY: Mapping[str, Field] = {
    "model": _honoured("name, alias or manifest digest"),
    "input": _honoured("a text, or up to 2048 texts; one that is too long is an error"),
    "truncate_prompt_tokens": _refused("a text is classified whole or not at all", -1),
    "priority": _ignored("there is one tier", 0),
    "user": _ignored("the caller is known by its API key", ""),
}

TRANSCRIPTION: dict[str, Field] = {
    "file": _honoured("WAV, FLAC, MP3 or Ogg Vorbis, up to 25 MiB and 4 hours"),
    "model": _honoured("name, alias or manifest digest"),
    "language": _honoured("that of the speech; one that the model does not write is refused"),
    "languages": _honoured("the first of them is taken for the language"),
    "response_format": _honoured("json, text, srt, verbose_json, vtt"),
    "timestamp_granularities": _honoured("segment, with verbose_json; word is refused: it is not known"),
    "stream": _honoured("server-sent events, with the text as it is written; json and text only"),
    "temperature": _ignored("the likeliest text is written", "0", "0.0"),
    "prompt": _ignored("the models here take none", ""),
    "keywords": _ignored("the models here take none", []),
    "chunking_strategy": _ignored("speech is always cut where it pauses", "auto"),
    "user": _ignored("the caller is known by its API key", ""),
    "include": _refused("probabilities are given per segment, in verbose_json", []),
    "known_speaker_names": _refused("speakers are not told apart", []),
    "known_speaker_references": _refused("speakers are not told apart", []),
}

TRANSLATION: dict[str, Field] = {
    name: TRANSCRIPTION[name] for name in ("file", "model", "prompt", "response_format", "temperature")
}

UPLOAD: Mapping[str, Field] = {
    "file": _honoured("the file, with a filename; sent as a part of a form"),
    "purpose": _honoured("assistants, batch, evals, fine-tune, user_data or vision; only batch has an effect"),
    "expires_after[anchor]": _honoured("created_at"),
    "expires_after[seconds]": _honoured("3600 to 2592000; without it, files with purpose batch stay for 30 days"),
}

BATCH: Mapping[str, Field] = {
    "input_file_id": _honoured("a file with purpose batch: one JSON object per line"),
    "endpoint": _honoured("/v1/chat/completions, /v1/completions, /v1/embeddings or /v1/responses"),
    "completion_window": _honoured("24h; extension: any whole number of s, m, h or d up to 30d"),
    "metadata": _honoured("up to 16 pairs, kept with the batch"),
    "output_expires_after": _honoured("anchor created_at, and 3600 to 2592000 seconds"),
}

_TOKENISING = "the model of `default` if left out"

TOKENISE: Mapping[str, Field] = {
    "model": _honoured(_TOKENISING),
    "prompt": _honoured("a text"),
    "messages": _honoured("instead of prompt: a conversation, as for chat completions, with its tools"),
    "tools": _honoured("as for chat completions"),
    "chat_template_kwargs": _honoured("enable_thinking only"),
    "add_special_tokens": _honoured("of a prompt: with the tokens around a text; true if left out"),
    "return_token_strs": _honoured("true or false"),
    "add_generation_prompt": _refused("a conversation is read up to the beginning of its next answer", True),
    "continue_final_message": _refused("a conversation is read up to the beginning of its next answer", False),
    "chat_template": _refused("templates come with models", ""),
    "mm_processor_kwargs": _refused("texts only", {}),
}

TOKENISE_LLAMA: Mapping[str, Field] = {
    "content": _honoured("a text; makes this a question in the shape of llama.cpp's server"),
    "model": _honoured(_TOKENISING),
    "add_special": _honoured("with the tokens around a text; false if left out"),
    "parse_special": _honoured("the name of a special token is that token; true if left out"),
    "with_pieces": _honoured("with the text or the bytes of each token"),
}

DETOKENISE: Mapping[str, Field] = {
    "tokens": _honoured("token ids"),
    "model": _honoured(_TOKENISING),
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
