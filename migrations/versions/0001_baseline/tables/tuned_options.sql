-- The search options that were tuned on judgements and kept, with what speaks for them. They are valid
-- for generations with the same documents: the same encoder of documents, columns, chunks and BM25.
CREATE TABLE semantic.tuned_options (
    index_id integer PRIMARY KEY REFERENCES semantic.semantic_index ON DELETE CASCADE,
    documents jsonb NOT NULL,
    options jsonb NOT NULL,
    evidence jsonb NOT NULL,
    tuned_at timestamptz NOT NULL DEFAULT now()
);
