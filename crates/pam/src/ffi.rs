//! The C side: the ten functions, the conversation callback, and nothing that decides anything.
#![expect(unsafe_code, reason = "PAM is a C library; every call of it is in this file")]

use std::{
    cell::RefCell,
    ffi::{CStr, CString, c_char, c_int, c_void},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::{self, NonNull},
    rc::Rc,
};

use crate::Item;

pub(crate) const SUCCESS: c_int = 0;
pub(crate) const SYSTEM_ERR: c_int = 4;
pub(crate) const ESTABLISH_CRED: c_int = 0x2;
pub(crate) const DELETE_CRED: c_int = 0x4;
const BUF_ERR: c_int = 5;
const CONV_ERR: c_int = 19;
const ERROR_MSG: c_int = 3;
const TEXT_INFO: c_int = 4;
/// PAM_MAX_NUM_MSG.
const MESSAGES_PER_CALL_MAX: usize = 32;
/// Messages that are kept between two calls of ours; a module in a loop may not fill the memory.
const MESSAGES_KEPT_MAX: usize = 16;

/// Opaque to us.
#[repr(C)]
pub(crate) struct Handle {
    private: [u8; 0],
}

#[repr(C)]
struct Message {
    style: c_int,
    text: *const c_char,
}

#[repr(C)]
struct Response {
    text: *mut c_char,
    code: c_int,
}

#[repr(C)]
struct Conv {
    call: extern "C" fn(c_int, *mut *const Message, *mut *mut Response, *mut c_void) -> c_int,
    data: *mut c_void,
}

#[link(name = "libpam.so.0", kind = "dylib", modifiers = "+verbatim")]
unsafe extern "C" {
    fn pam_start(
        service: *const c_char,
        user: *const c_char,
        conv: *const Conv,
        handle: *mut *mut Handle,
    ) -> c_int;
    fn pam_end(handle: *mut Handle, status: c_int) -> c_int;
    fn pam_set_item(handle: *mut Handle, item: c_int, value: *const c_void) -> c_int;
    fn pam_acct_mgmt(handle: *mut Handle, flags: c_int) -> c_int;
    fn pam_setcred(handle: *mut Handle, flags: c_int) -> c_int;
    fn pam_open_session(handle: *mut Handle, flags: c_int) -> c_int;
    fn pam_close_session(handle: *mut Handle, flags: c_int) -> c_int;
    fn pam_getenvlist(handle: *mut Handle) -> *mut *mut c_char;
    fn pam_strerror(handle: *mut Handle, code: c_int) -> *const c_char;
}

/// What modules say to the user.
#[derive(Debug, Default)]
pub(crate) struct Conversation {
    messages: RefCell<Vec<String>>,
}

impl Conversation {
    pub(crate) fn take(&self) -> Vec<String> {
        self.messages.take()
    }

    /// Takes a message, or refuses a question.
    fn hear(&self, style: c_int, text: &CStr) -> bool {
        let text = crate::lossy(text);
        let heard = style == ERROR_MSG || style == TEXT_INFO;
        let mut messages = self.messages.borrow_mut();
        if messages.len() < MESSAGES_KEPT_MAX && !text.is_empty() {
            messages.push(if heard {
                text
            } else {
                format!("asks {text:?}, which nobody can answer")
            });
        }
        heard
    }
}

extern "C" fn converse(
    count: c_int,
    messages: *mut *const Message,
    responses: *mut *mut Response,
    data: *mut c_void,
) -> c_int {
    let Ok(count) = usize::try_from(count) else { return CONV_ERR };
    if count == 0
        || count > MESSAGES_PER_CALL_MAX
        || messages.is_null()
        || responses.is_null()
        || data.is_null()
    {
        return CONV_ERR;
    }
    // A panic may not cross into C.
    let heard = catch_unwind(AssertUnwindSafe(|| {
        // SAFETY: `data` is a count of its own on the conversation that `start` was given, which `end` gives back; all
        // references to it are shared, and PAM calls back in the thread that calls it.
        let conversation = unsafe { &*data.cast::<Conversation>().cast_const() };
        (0..count).all(|index| {
            // SAFETY: PAM gives `count` pointers to messages that live during the call (Linux-PAM's layout).
            let message = unsafe { &**messages.add(index) };
            if message.text.is_null() {
                return conversation.hear(message.style, c"");
            }
            // SAFETY: a text that is not NULL is a C string.
            let text = unsafe { CStr::from_ptr(message.text) };
            conversation.hear(message.style, text)
        })
    }));
    if !heard.unwrap_or(false) {
        return CONV_ERR;
    }
    // SAFETY: PAM frees the array with `free`, so it has to come from `calloc`; zero is a valid Response.
    let answers = unsafe { libc::calloc(count, size_of::<Response>()) }.cast::<Response>();
    if answers.is_null() {
        return BUF_ERR;
    }
    // SAFETY: checked above not to be NULL; PAM gives a place for one pointer.
    unsafe { *responses = answers };
    SUCCESS
}

/// Begins a transaction, which holds the conversation until [`end`].
pub(crate) fn start(
    service: &CStr,
    user: &CStr,
    conversation: &Rc<Conversation>,
) -> Result<NonNull<Handle>, c_int> {
    // It stays where it is, whatever becomes of the caller's own hold.
    let data = Rc::into_raw(Rc::clone(conversation));
    let conv = Conv { call: converse, data: data.cast_mut().cast() };
    let mut handle = ptr::null_mut();
    // SAFETY: all pointers are valid during the call; PAM copies the texts and the conv structure.
    let code =
        unsafe { pam_start(service.as_ptr(), user.as_ptr(), &raw const conv, &raw mut handle) };
    let handle = if code == SUCCESS { NonNull::new(handle).ok_or(SYSTEM_ERR) } else { Err(code) };
    handle.inspect_err(|_| {
        // SAFETY: it came from `into_raw` above, and no transaction was begun that could use it.
        drop(unsafe { Rc::from_raw(data) });
    })
}

/// Ends a transaction; `conversation` is the one that it was begun with.
pub(crate) fn end(handle: NonNull<Handle>, status: c_int, conversation: &Rc<Conversation>) {
    // SAFETY: the handle came from `start`, and its owner is being dropped. With it goes the last use of the count that
    // `start` took.
    unsafe {
        pam_end(handle.as_ptr(), status);
        Rc::decrement_strong_count(Rc::as_ptr(conversation));
    }
}

pub(crate) fn set_item(handle: NonNull<Handle>, item: Item, value: &CStr) -> c_int {
    let number = match item {
        Item::Tty => 3,
        Item::RemoteHost => 4,
        Item::Display => 11,
    };
    // SAFETY: the handle is live; these items are C strings, which PAM copies.
    unsafe { pam_set_item(handle.as_ptr(), number, value.as_ptr().cast()) }
}

pub(crate) fn acct_mgmt(handle: NonNull<Handle>) -> c_int {
    // SAFETY: the handle is live.
    unsafe { pam_acct_mgmt(handle.as_ptr(), 0) }
}

pub(crate) fn setcred(handle: NonNull<Handle>, flags: c_int) -> c_int {
    // SAFETY: the handle is live.
    unsafe { pam_setcred(handle.as_ptr(), flags) }
}

pub(crate) fn open_session(handle: NonNull<Handle>) -> c_int {
    // SAFETY: the handle is live.
    unsafe { pam_open_session(handle.as_ptr(), 0) }
}

pub(crate) fn close_session(handle: NonNull<Handle>) -> c_int {
    // SAFETY: the handle is live.
    unsafe { pam_close_session(handle.as_ptr(), 0) }
}

/// The entries `NAME=value`.
pub(crate) fn environment(handle: NonNull<Handle>) -> Vec<CString> {
    // SAFETY: the handle is live.
    let list = unsafe { pam_getenvlist(handle.as_ptr()) };
    let mut entries = Vec::new();
    if list.is_null() {
        return entries;
    }
    let mut at = list;
    // SAFETY: the list is an array of C strings that ends with NULL; list and strings are ours to free.
    unsafe {
        while !(*at).is_null() {
            entries.push(CStr::from_ptr(*at).to_owned());
            libc::free((*at).cast());
            at = at.add(1);
        }
        libc::free(list.cast());
    }
    entries
}

pub(crate) fn error_text(handle: NonNull<Handle>, code: c_int) -> String {
    // SAFETY: the handle is live.
    let text = unsafe { pam_strerror(handle.as_ptr(), code) };
    if text.is_null() {
        return format!("error {code}");
    }
    // SAFETY: not NULL, so a C string, constant or owned by the handle; copied here.
    crate::lossy(unsafe { CStr::from_ptr(text) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Needs no PAM, so that Miri can look at it: `cargo +nightly miri test -p vsm-pam moved`.
    #[test]
    fn a_module_is_heard_when_the_conversation_was_moved() {
        struct Owner {
            conversation: Rc<Conversation>,
        }
        let conversation = Rc::new(Conversation::default());
        let data = Rc::into_raw(Rc::clone(&conversation));
        let owner = Box::new(Owner { conversation });
        assert!(owner.conversation.take().is_empty());
        let message = Message { style: TEXT_INFO, text: c"disk almost full".as_ptr() };
        let mut all = [&raw const message];
        let mut answers = ptr::null_mut();
        let code = converse(1, all.as_mut_ptr(), &raw mut answers, data.cast_mut().cast());
        assert_eq!(
            (code, owner.conversation.take()),
            (SUCCESS, vec!["disk almost full".to_owned()])
        );
        // SAFETY: the array came from `calloc`; the count from `into_raw`.
        unsafe {
            libc::free(answers.cast());
            drop(Rc::from_raw(data));
        }
        assert_eq!(Rc::strong_count(&owner.conversation), 1);
    }
}
