-- The cluster where the jobs were created. The table has no key, so a row that is replicated here never conflicts.
CREATE TABLE semantic.cluster (
    system_identifier bigint NOT NULL,
    recorded_at timestamptz NOT NULL DEFAULT now()
);

ALTER TABLE semantic.cluster REPLICA IDENTITY FULL;
