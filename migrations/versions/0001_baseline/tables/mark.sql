-- Marks are appended and never updated, so a writer waits for no lock and meets no conflict at any isolation level. A
-- NULL key means that every row must be checked again. No index includes the key, because that would limit its
-- length. The priority is that of the job: 0 for an edit, 1 for what a large statement marks beyond its first
-- thousand rows.
CREATE TABLE semantic.mark (
    generation_id integer NOT NULL,
    key text COLLATE "C",
    marked_at timestamptz NOT NULL DEFAULT now(),
    priority smallint NOT NULL DEFAULT 0
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000, autovacuum_vacuum_cost_delay = 0);

CREATE INDEX mark_next_idx ON semantic.mark (generation_id, priority, marked_at);

-- The table has no key, and a publication of all tables would otherwise reject deletes from it. Inserts cost the same.
ALTER TABLE semantic.mark REPLICA IDENTITY FULL;
