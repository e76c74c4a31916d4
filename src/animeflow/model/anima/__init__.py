"""The Anima line: a Cosmos-Predict2 DiT, Qwen3 states read through an adapter, Qwen-Image's codec."""

CELL = 16  # pixels along one side of a token: codec stride x patch

SIGNS = (  # patterns of keys by which a file is known, for messages
    (r"(^|\.)llm_adapter\.|^text_conditioner\.", "Anima"),
)
