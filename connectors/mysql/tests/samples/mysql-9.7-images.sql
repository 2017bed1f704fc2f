CREATE TABLE imaged (id INT PRIMARY KEY, a INT, b VARCHAR(10), c TEXT);
SET binlog_rows_query_log_events=ON;
INSERT INTO imaged VALUES (1, 10, 'b', 'full');
SET binlog_row_image=MINIMAL; INSERT INTO imaged (id, b) VALUES (2, 'x'); UPDATE imaged SET a = 11 WHERE id = 1; DELETE FROM imaged WHERE id = 2;
SET binlog_row_image=NOBLOB; UPDATE imaged SET a = 12 WHERE id = 1; UPDATE imaged SET c = 'now' WHERE id = 1; DELETE FROM imaged WHERE id = 1;
SET binlog_row_image=FULL; SET GLOBAL binlog_row_metadata=MINIMAL; INSERT INTO imaged VALUES (3, 1, NULL, NULL); SET GLOBAL binlog_row_metadata=FULL;
