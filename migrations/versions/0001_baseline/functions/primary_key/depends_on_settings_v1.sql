-- Whether the text of a key may depend on settings of the session, such as datestyle. Assumes that it does for a type
-- that isn't in this list, such as a domain over dates. An extension's type, such as citext, may have its schema.
CREATE FUNCTION semantic.depends_on_settings_v1(spec jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT bool_or(part ->> 'type' !~* (
        '^(smallint|integer|bigint|oid|uuid|boolean|numeric|text|name|varchar|char|character( varying)?|inet|cidr'
        '|macaddr8?|bit( varying)?|(("[^"]+"|\w+)\.)?citext)(\([\d, ]+\))?( collate .*)?$'
    ))
    FROM jsonb_array_elements(spec -> 'key') AS part
);
