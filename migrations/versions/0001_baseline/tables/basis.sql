-- The rotation behind the prefixes of a copy: the axes of its first dimensions, in order. `filled_at` is when every chunk
-- had its prefix; later ones get theirs when they are written.
CREATE TABLE semantic.basis (
    generation_id integer PRIMARY KEY REFERENCES semantic.generation ON DELETE CASCADE,
    axes vector_schema.vector[] NOT NULL,
    vectors integer NOT NULL,  -- that it was computed from
    made_at timestamptz NOT NULL DEFAULT now(),
    filled_at timestamptz
);
