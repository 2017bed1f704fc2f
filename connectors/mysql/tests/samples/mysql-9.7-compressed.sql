SET binlog_transaction_compression=ON;
CREATE TABLE wide (id INT PRIMARY KEY, body TEXT);
BEGIN; INSERT INTO wide SELECT n, REPEAT(CONCAT('row ', n, ' '), 200) FROM (WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM c WHERE n < 100) SELECT n FROM c) x; UPDATE wide SET body = 'short' WHERE id <= 10; DELETE FROM wide WHERE id > 90; COMMIT;
SET gtid_next='AUTOMATIC:tagx'; INSERT INTO wide VALUES (101, 'x');
