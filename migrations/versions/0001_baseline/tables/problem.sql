-- Why a copy is not kept in sync, or its indexes are not built, for as long as this lasts. Only the owner can read
-- it, because a message from the server may quote a value.
CREATE TABLE semantic.problem (
    generation_id integer NOT NULL REFERENCES semantic.generation ON DELETE CASCADE,
    kind text NOT NULL CHECK (kind IN ('sync', 'build', 'key', 'capture', 'foreign_key')),
    reason text NOT NULL,
    failures integer NOT NULL DEFAULT 1,
    since timestamptz NOT NULL DEFAULT now(),
    next_at timestamptz NOT NULL,
    PRIMARY KEY (generation_id, kind)
);
