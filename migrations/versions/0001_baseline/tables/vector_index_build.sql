-- The last build of each copy's vector index: how long it took, for forecasts, and the counters of the chunk table at its
-- end, to see how much has changed since. Only the owner can read it, because it tells how many chunks there are.
CREATE TABLE semantic.vector_index_build (
    generation_id integer PRIMARY KEY REFERENCES semantic.generation ON DELETE CASCADE,
    file oid NOT NULL,  -- of the index; it has another one if someone else builds it again
    built_at timestamptz NOT NULL DEFAULT now(),
    seconds double precision NOT NULL,
    in_memory boolean NOT NULL,  -- whether the graph fit into maintenance_work_mem
    chunks bigint NOT NULL,
    inserted bigint NOT NULL,
    updated bigint NOT NULL,
    deleted bigint NOT NULL,
    statistics_reset timestamptz  -- when the counters of this database were last reset
);
