/* A Modbus server on libmodbus, for several connections one after the other or at once.
 *
 * libmodbus_server tcp PORT | rtu DEVICE. Holding registers 0 to 255. A line of standard input is {"put": "ADDRESS WORD"} or
 * {"forget": "ADDRESS"}: what is forgotten makes a request that covers it exception 2. */
#include <modbus.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/select.h>
#include <unistd.h>

enum { SIZE = 256 };

static modbus_mapping_t *mapping;
static char forgotten[SIZE];

static int heed(void) {
    char line[256];
    unsigned address, word;
    if (fgets(line, sizeof line, stdin) == NULL)
        return 0;
    if (sscanf(line, "{\"put\": \"%u %u\"}", &address, &word) == 2 && address < SIZE)
        mapping->tab_registers[address] = (uint16_t)word;
    else if (sscanf(line, "{\"forget\": \"%u\"}", &address) == 1 && address < SIZE)
        forgotten[address] = 1;
    puts("DONE");
    return 1;
}

static int covers_forgotten(const uint8_t *pdu) {
    int start = pdu[1] << 8 | pdu[2], count = pdu[3] << 8 | pdu[4];
    if (pdu[0] != MODBUS_FC_READ_HOLDING_REGISTERS)
        return 0;
    for (int address = start; address < start + count && address < SIZE; address++)
        if (forgotten[address])
            return 1;
    return 0;
}

static int serve(modbus_t *context) {
    uint8_t query[MODBUS_MAX_ADU_LENGTH];
    int length = modbus_receive(context, query);
    if (length > 0) {
        const uint8_t *pdu = query + modbus_get_header_length(context);
        if (covers_forgotten(pdu))
            modbus_reply_exception(context, query, MODBUS_EXCEPTION_ILLEGAL_DATA_ADDRESS);
        else
            modbus_reply(context, query, length, mapping);
    }
    return length;
}

int main(int argc, char **argv) {
    int is_tcp = argc == 3 && strcmp(argv[1], "tcp") == 0;
    modbus_t *context;
    fd_set all;
    int listening = -1, most;

    if (argc != 3)
        return 2;
    setvbuf(stdout, NULL, _IONBF, 0);
    setvbuf(stdin, NULL, _IONBF, 0); /* select sees what a buffer would hide */
    mapping = modbus_mapping_new(SIZE, SIZE, SIZE, SIZE);
    context = is_tcp ? modbus_new_tcp("127.0.0.1", atoi(argv[2])) : modbus_new_rtu(argv[2], 9600, 'N', 8, 1);
    modbus_set_slave(context, 1);
    if (is_tcp)
        listening = modbus_tcp_listen(context, 8);
    else if (modbus_connect(context) == 0)
        listening = modbus_get_socket(context);
    if (listening < 0) {
        perror(argv[2]);
        return 1;
    }
    FD_ZERO(&all);
    FD_SET(STDIN_FILENO, &all);
    FD_SET(listening, &all);
    most = listening;
    puts("READY");
    for (;;) {
        fd_set ready = all;
        if (select(most + 1, &ready, NULL, NULL, NULL) < 0)
            return 1;
        for (int fd = 0; fd <= most; fd++) {
            if (!FD_ISSET(fd, &ready))
                continue;
            if (fd == STDIN_FILENO) {
                if (!heed())
                    return 0;
            } else if (is_tcp && fd == listening) {
                int accepted = modbus_tcp_accept(context, &listening);
                FD_SET(accepted, &all);
                most = accepted > most ? accepted : most;
            } else {
                modbus_set_socket(context, fd);
                if (serve(context) < 0 && is_tcp) {
                    FD_CLR(fd, &all);
                    close(fd);
                }
            }
        }
    }
}
