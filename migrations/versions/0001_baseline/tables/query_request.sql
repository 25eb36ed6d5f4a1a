-- Answered requests are deleted. After a crash, no session waits for the lost ones, so the table is unlogged.
CREATE UNLOGGED TABLE semantic.query_request (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    encoder_id bigint NOT NULL REFERENCES semantic.encoder ON DELETE CASCADE,
    text text NOT NULL,
    ends_at timestamptz NOT NULL DEFAULT clock_timestamp() + interval '1 minute',
    error text
) WITH (autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 1000);
