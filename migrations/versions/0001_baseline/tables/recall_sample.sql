-- What a worker measured: of the nearest chunks of some stored vectors, how many the vector index found. Each query
-- expects the same number of chunks, so that nothing here tells how many there are.
CREATE TABLE semantic.recall_sample (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    generation_id integer NOT NULL REFERENCES semantic.generation ON DELETE CASCADE,
    ef_search integer NOT NULL,
    measured_at timestamptz NOT NULL DEFAULT now(),
    queries integer NOT NULL CHECK (queries > 0),
    found integer NOT NULL CHECK (found BETWEEN 0 AND expected),
    expected integer NOT NULL
);

CREATE INDEX recall_sample_idx ON semantic.recall_sample (generation_id, ef_search, id);
