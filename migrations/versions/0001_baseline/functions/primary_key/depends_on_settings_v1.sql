-- Whether the text of a key may depend on settings of the session, such as datestyle. Any type that is not known not to
-- may, a domain over dates for one.
CREATE FUNCTION semantic.depends_on_settings_v1(spec jsonb) RETURNS boolean
LANGUAGE sql IMMUTABLE SET search_path = pg_catalog, pg_temp
RETURN (
    SELECT bool_or(part ->> 'type' !~* (
        '^(smallint|integer|bigint|oid|uuid|boolean|numeric|text|name|varchar|char|character( varying)?|citext|inet|cidr'
        '|macaddr8?|bit( varying)?)(\([\d, ]+\))?( collate .*)?$'
    ))
    FROM jsonb_array_elements(spec -> 'key') AS part
);
