SET gtid_next='AUTOMATIC:tagx'; DELETE FROM numbers WHERE i32=0; SET gtid_next='AUTOMATIC:other_tag'; DELETE FROM numbers WHERE i32=7; SET gtid_next='AUTOMATIC'; DELETE FROM shapes WHERE id=2;
