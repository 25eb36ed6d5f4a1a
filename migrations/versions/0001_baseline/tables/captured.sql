-- What could let rows of a captured table bypass capture if it changed: the triggers (with the transaction that last
-- wrote them), the columns, and the file.
CREATE TABLE semantic.captured (
    index_id integer NOT NULL REFERENCES semantic.semantic_index ON DELETE CASCADE,
    relation regclass NOT NULL,
    triggers text NOT NULL,
    columns jsonb NOT NULL,
    file oid NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now(),
    PRIMARY KEY (index_id, relation)
);
