-- The figures of an evaluation, one row per variant, to see how quality changes. Never the text of a query: only a hash
-- of the judgements, and the values of the queries in the order of their own hashes.
CREATE TABLE semantic.evaluation (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    index_id integer NOT NULL REFERENCES semantic.semantic_index ON DELETE CASCADE,
    generation_id integer NOT NULL,  -- which may have been dropped since
    fingerprint text,
    evaluated_at timestamptz NOT NULL DEFAULT now(),
    judgements_hash bytea NOT NULL,
    queries integer NOT NULL,
    variant text NOT NULL,
    settings jsonb NOT NULL,
    measures jsonb NOT NULL,
    judged double precision NOT NULL,
    p50_ms double precision NOT NULL,
    p95_ms double precision NOT NULL,
    measure text NOT NULL,
    per_query double precision [] NOT NULL  -- the values of this measure
);

CREATE INDEX evaluation_evaluated_idx ON semantic.evaluation (index_id, evaluated_at);
