-- The position of a lexeme in a sparse vector.
CREATE FUNCTION semantic.lexeme_position_v1(lexeme text) RETURNS integer
LANGUAGE sql IMMUTABLE STRICT PARALLEL SAFE
RETURN (hashtextextended(lexeme COLLATE "C", 0) & 9223372036854775807) % 1000000000 + 1;
