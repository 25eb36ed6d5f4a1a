-- The text of a column's value, of any type. Each element of an array is on a line of its own. The planner inlines
-- this.
CREATE FUNCTION semantic.value_as_text_v1(value anynonarray) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $body$ SELECT CAST($1 AS pg_catalog.text) $body$;

CREATE FUNCTION semantic.value_as_text_v1(value anyarray) RETURNS text
LANGUAGE sql STABLE PARALLEL SAFE
AS $body$ SELECT pg_catalog.array_to_string($1, E'\n') $body$;
