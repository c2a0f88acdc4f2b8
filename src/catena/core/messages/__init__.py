"""What crosses a seam: frozen structs, parsed once at the door, never dictionaries."""

from catena.core.messages.audit import Closed, Cost, Decision, Opened, Outcome
from catena.core.messages.chat import (
    Audio,
    ChatRequest,
    CompletionRequest,
    GenerateRequest,
    Image,
    Message,
    OutputFormat,
    Part,
    Role,
    Sampling,
    Text,
    Tool,
    ToolCall,
    ToolChoice,
    message_text,
)
from catena.core.messages.classify import Classified, ClassifyRequest, Span
from catena.core.messages.egress import Egress
from catena.core.messages.embed import Embedded, EmbedRequest
from catena.core.messages.events import (
    Delta,
    Event,
    Finished,
    FinishReason,
    Progress,
    Timings,
    TokenLogprob,
    ToolCallDelta,
    TopLogprob,
    Usage,
)
from catena.core.messages.label import PUBLIC, Label, Mark, join
from catena.core.messages.predict import Prediction, PredictRequest, Tensor
from catena.core.messages.reply import Choice, Reply, canonical_bytes, collect
from catena.core.messages.rerank import Reranked, RerankRequest
from catena.core.messages.tokens import DetokeniseRequest, TokeniseRequest, Tokens
from catena.core.messages.transcribe import Listened, Segment, TranscribeRequest

__all__ = [
    "PUBLIC",
    "Audio",
    "ChatRequest",
    "Choice",
    "Classified",
    "ClassifyRequest",
    "Closed",
    "CompletionRequest",
    "Cost",
    "Decision",
    "Delta",
    "DetokeniseRequest",
    "Egress",
    "EmbedRequest",
    "Embedded",
    "Event",
    "FinishReason",
    "Finished",
    "GenerateRequest",
    "Image",
    "Label",
    "Listened",
    "Mark",
    "Message",
    "Opened",
    "Outcome",
    "OutputFormat",
    "Part",
    "PredictRequest",
    "Prediction",
    "Progress",
    "Reply",
    "RerankRequest",
    "Reranked",
    "Role",
    "Sampling",
    "Segment",
    "Span",
    "Tensor",
    "Text",
    "Timings",
    "TokenLogprob",
    "TokeniseRequest",
    "Tokens",
    "Tool",
    "ToolCall",
    "ToolCallDelta",
    "ToolChoice",
    "TopLogprob",
    "TranscribeRequest",
    "Usage",
    "canonical_bytes",
    "collect",
    "join",
    "message_text",
]
