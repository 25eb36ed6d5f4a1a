CREATE TABLE semantic.semantic_index (
    id integer GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL,
    source regclass NOT NULL,
    created_at timestamptz NOT NULL DEFAULT now(),
    UNIQUE (source, name)
);
