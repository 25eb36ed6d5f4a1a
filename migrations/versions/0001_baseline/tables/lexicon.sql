CREATE TABLE semantic.lexicon (
    generation_id integer PRIMARY KEY REFERENCES semantic.generation ON DELETE CASCADE,
    row_count bigint NOT NULL,
    average_length double precision NOT NULL,
    weights_length double precision NOT NULL,
    refreshed_at timestamptz NOT NULL DEFAULT now()
);
