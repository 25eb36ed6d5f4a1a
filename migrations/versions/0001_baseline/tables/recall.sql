-- How many candidates a scan of a copy's vector index keeps, and when a worker measures its recall next. A copy without
-- a row, or without a number, is searched with the default.
CREATE TABLE semantic.recall (
    generation_id integer PRIMARY KEY REFERENCES semantic.generation ON DELETE CASCADE,
    ef_search integer CHECK (ef_search BETWEEN 1 AND 1000),
    evidence jsonb,  -- what `pg-semantic tune --recall` measured; NULL if a worker chose the number
    changed_at timestamptz,
    measure_at timestamptz NOT NULL DEFAULT now(),
    problem text  -- why the recall could not be measured the last time
);
