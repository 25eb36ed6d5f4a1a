-- The search options that were tuned on judgements and kept, with what speaks for them. They are for the encoder and
-- the chunks of one generation.
CREATE TABLE semantic.tuned_options (
    index_id integer PRIMARY KEY REFERENCES semantic.semantic_index ON DELETE CASCADE,
    generation_id integer NOT NULL,  -- which may have been dropped since
    options jsonb NOT NULL,
    evidence jsonb NOT NULL,
    tuned_at timestamptz NOT NULL DEFAULT now()
);
