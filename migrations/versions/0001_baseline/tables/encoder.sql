CREATE TABLE semantic.encoder (
    id bigint PRIMARY KEY,
    reference text NOT NULL,
    dimensions integer NOT NULL CHECK (dimensions > 0),
    fingerprint text,
    document_fingerprint text,  -- of what decides the vectors of documents; both are NULL before the first load
    revision text,
    max_tokens integer,
    first_loaded_at timestamptz,
    query_prompt text,  -- as declared, or NULL; after the first load, the actual prompt
    document_prompt text
);
